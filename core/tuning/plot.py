"""Speed against fidelity, with the Pareto front: drawn as SVG here, as PNG by matplotlib."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from core.arguments import check_path
from core.errors import CoreError, OptionError
from core.files.staging import explained_writes
from core.tuning.findings import Findings, TunedVariant

_AXES = {
    "throughput": "texts/s",
    "latency": "ms for one text",
    "memory": "MB of resident memory",
}
_NO_MATPLOTLIB = "A .png needs matplotlib: `pip install 'core[plot]'`. A .svg needs nothing more."

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 16, 48


@dataclass(frozen=True)
class _Point:
    """A variant in the plot."""

    x: float
    y: float
    variant: TunedVariant
    on_front: bool
    is_best: bool


def write_plot(report: Findings, path: str | os.PathLike[str]) -> Path:
    """Draw a report to a file that ends in .svg or .png."""
    place = check_plot(path)
    if place.suffix.lower() == ".png":
        _draw_png(report, place)
        return place
    with explained_writes(place):
        place.write_text(draw_svg(report) + "\n", encoding="utf-8")
    return place


def check_plot(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that a plot cannot be written to, before there is one."""
    place = check_path("path", path)
    if place.suffix.lower() not in (".svg", ".png"):
        raise OptionError(f"A plot is written to a .svg or a .png file, not to {str(place)!r}.")
    if place.suffix.lower() == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise CoreError(_NO_MATPLOTLIB)
    return check_folder(place)


def check_folder(place: Path) -> Path:
    """A file's path, if its directory is there and may be written to."""
    if not os.access(place.parent, os.W_OK):
        why = "is not writable" if place.parent.is_dir() else "does not exist"
        raise OptionError(f"{str(place)!r}: the directory {str(place.parent)!r} {why}.")
    return place


def draw_svg(report: Findings) -> str:
    """The plot as an SVG element: no script, no font and no address of its own.

    It takes the colour of the text around it, so it fits a dark page.
    """
    points = _points(report)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(_title(report))}" font-family="sans-serif" font-size="12" '
        'fill="currentColor" style="max-width: 100%">'
    ]
    x_of, y_of, x_ticks, y_ticks = _scales(points)
    for value in x_ticks:
        x = x_of(value)
        parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM, "0.15"))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{value:g}", "middle"))
    for value in y_ticks:
        y = y_of(value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "0.15"))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:g}", "end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 8, _AXES[report.goal.objective], "middle"))
    parts.append(_text(_LEFT - 6, _TOP - 4, "recall@10", "end"))
    if report.goal.min_recall is not None and y_ticks[0] <= report.goal.min_recall <= y_ticks[-1]:
        y = y_of(report.goal.min_recall)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "0.6", dashed=True))
    front = sorted((p for p in points if p.on_front), key=lambda p: p.x)
    if len(front) > 1:
        corners = " ".join(f"{x_of(p.x):.1f},{y_of(p.y):.1f}" for p in front)
        parts.append(
            f'<polyline points="{corners}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
        )
    for point in points:
        above = point in front[1::2]
        parts.append(_mark(point, x_of(point.x), y_of(point.y), above=above))
    parts.append("</svg>")
    return "\n".join(parts)


def _points(report: Findings) -> list[_Point]:
    front = {variant.name for variant in report.pareto_front()}
    found = []
    for variant in report.variants:
        x = x_value(variant, report.goal.objective)
        if x is not None and variant.recall_at_10 is not None:
            best = variant.name == report.best.name
            found.append(_Point(x, variant.recall_at_10, variant, variant.name in front, best))
    return found


def x_value(variant: TunedVariant, objective: str) -> float | None:
    """The figure an objective is about, in the unit of the plot."""
    if objective == "throughput":
        return variant.texts_per_second
    if objective == "latency":
        return variant.p50_ms
    return None if variant.resident_bytes is None else variant.resident_bytes / 1e6


def _scales(points: Sequence[_Point]) -> tuple[Any, Any, list[float], list[float]]:
    x_ticks = _ticks(0.0, max(point.x for point in points) * 1.05)
    lowest = min(min(point.y for point in points), 0.99)
    y_ticks = _ticks(lowest - 0.05 * (1 - lowest), 1.0)

    def x_of(value: float) -> float:
        return _LEFT + value / x_ticks[-1] * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    return x_of, y_of, x_ticks, y_ticks


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers around a range."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if (high - low) / (step * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(round(high / step, 6))
    return [round(number * step, 10) for number in range(first, last + 1)]


def _mark(point: _Point, x: float, y: float, *, above: bool) -> str:
    variant = point.variant
    told = f"{variant.name}: {point.x:.5g}, recall@10 {point.y:.4f}"
    size, strength = (7, "1") if point.is_best else (4.5, "0.9" if point.on_front else "0.35")
    colour = "#d55e00" if point.is_best else "currentColor"
    mark = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}" fill-opacity="{strength}">'
        f"<title>{escape(told)}</title></circle>"
    )
    if not (point.is_best or point.on_front):
        return mark
    # To the left of the mark in the right half, so that no name leaves the picture; one above, the
    # next below, so that neighbours on the front do not cover each other.
    line = y - 10 if above else y + 18
    right = x > _WIDTH * 0.6
    return mark + _text(x - 4 if right else x + 4, line, variant.name, "end" if right else "start")


def _line(x1: float, y1: float, x2: float, y2: float, strength: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{strength}"{dash}/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(report: Findings) -> str:
    return f"{_AXES[report.goal.objective]} and recall@10 of every variant of {report.model}"


def _draw_png(report: Findings, place: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = _points(report)
    figure = Figure(figsize=(8, 4.7), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    front = sorted((p for p in points if p.on_front), key=lambda p: p.x)
    widest = max(point.x for point in points)
    for point in points:
        colour = "#d55e00" if point.is_best else "#444444" if point.on_front else "#bbbbbb"
        axes.plot(point.x, point.y, "o", color=colour, markersize=9 if point.is_best else 6)
        if point.is_best or point.on_front:
            axes.annotate(
                point.variant.name,
                (point.x, point.y),
                textcoords="offset points",
                # One above, the next below: neighbours on the front do not cover each other.
                xytext=(0, 9 if point in front[1::2] else -15),
                ha="right" if point.x > 0.8 * widest else "center",
                fontsize=8,
            )
    axes.plot([p.x for p in front], [p.y for p in front], "-", color="#999999", linewidth=1)
    if report.goal.min_recall is not None:
        axes.axhline(report.goal.min_recall, color="#666666", linestyle="--", linewidth=1)
    axes.set_xlim(left=0)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(_AXES[report.goal.objective])
    axes.set_ylabel("recall@10")
    axes.grid(alpha=0.2)
    axes.set_title(report.model, fontsize=10)
    with explained_writes(place):
        figure.savefig(place)
