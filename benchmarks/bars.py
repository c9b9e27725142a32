"""Horizontal bars as an SVG: of the README, and of the comparison of variants."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.systems import REFERENCE
from benchmarks.variant_summary import Figures

_OURS, _PEERS = "#1f6fb2", "#b8b8b8"
_WIDTH, _LINE, _TOP = 760, 22, 40
#: Pixels of a letter, about.
_LETTER = 7

#: Name, length of the bar, whether it is ours, and what stands beside the bar.
Bar = tuple[str, float, bool, str]


def speed_bars(systems: Mapping[str, Any]) -> str:
    """Bars of the geometric means over the lengths of texts, against the reference; fastest first.

    Systems that failed on one of the lengths are left out.
    """
    most = max(len(entry["ratio"]) for entry in systems.values())
    means = {
        name: statistics.geometric_mean(entry["ratio"].values())
        for name, entry in systems.items()
        if len(entry["ratio"]) == most
    }
    names = sorted(means, key=lambda name: -means[name])
    return _drawing(
        f"Texts per second, relative to {REFERENCE}",
        f"Texts per second on two CPU cores, relative to {REFERENCE} (longer is faster)",
        [(name, means[name], systems[name]["ours"], f"{means[name]:.1f}x") for name in names],
    )


def variant_speed_bars(figures: Mapping[str, Figures]) -> str:
    """Speed of every variant, the mean over sizes of model and lengths of texts; fastest first."""
    bars = []
    for name in _fastest_first(figures):
        found = figures[name]
        assert found.speed is not None
        sizes = "" if found.sizes[0] == found.sizes[1] else " ({} of {} sizes)".format(*found.sizes)
        bars.append((name, found.speed, found.ours, f"{found.speed:.2f}x{sizes}"))
    return _drawing(
        "Speedup ratio of every variant",
        f"Speedup ratio: texts per second, relative to {REFERENCE} fp32 (longer is faster)",
        bars,
    )


def variant_quality_bars(figures: Mapping[str, Figures]) -> str:
    """Quality of every variant as a share of the reference's, in the order of their speed."""
    bars = [
        (name, quality, figures[name].ours, f"{quality:.4f}")
        for name in _fastest_first(figures)
        if (quality := figures[name].quality) is not None
    ]
    return _drawing(
        "Performance ratio of every variant",
        f"Performance ratio: quality, relative to {REFERENCE} fp32 (fastest variant first)",
        bars,
    )


def _fastest_first(figures: Mapping[str, Figures]) -> list[str]:
    known = {name: found.speed for name, found in figures.items() if found.speed is not None}
    return sorted(known, key=lambda name: -known[name])


def _drawing(title: str, head: str, bars: Sequence[Bar]) -> str:
    height = _TOP + _LINE * len(bars) + 10
    left = 20 + _LETTER * max((len(name) for name, *_ in bars), default=0)
    unit = (_WIDTH - left - 90) / max((length for _, length, _, _ in bars), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="22">{escape(head)}</text>',
    ]
    for number, (name, value, ours, label) in enumerate(bars):
        y = _TOP + _LINE * number
        length = round(max(value, 0.0) * unit, 1)
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{y + 2}" width="{length}" height="{_LINE - 6}" '
            f'fill="{_OURS if ours else _PEERS}"/>'
            f'<text x="{left + length + 6}" y="{y + 14}">{escape(label)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
