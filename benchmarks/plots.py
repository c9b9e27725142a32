"""Plots of a run's JSON. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import StrMethodFormatter

from benchmarks.scaling_tables import cost_curves
from benchmarks.tables import ordered
from benchmarks.volume import SETTLED, SMALL

OURS, PEERS = "#1f6fb2", "#b8b8b8"
COLORS = {
    "onnx": "#1f6fb2",
    "openvino": "#7a3fb0",
    "torch": "#d9622b",
    "onnx int8": "#2a9d6f",
    SMALL: "#777777",
}


def draw(sections: Mapping[str, Any], folder: Path) -> None:
    """Write every plot whose section there is."""
    if "systems" in sections.get("throughput", {}):
        _throughput(sections["throughput"], folder / "throughput.png")
    if "systems" in sections.get("latency", {}):
        _latency(sections["latency"]["systems"], folder / "latency.png")
    panels = [
        (panel, sections[name])
        for name, panel in (("batching", _batching), ("volume", _volume), ("length", _length))
        if sections.get(name, {}).keys() & {"rows", "encode"}
    ]
    if panels:
        figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.4), squeeze=False)
        for axis, (panel, found) in zip(axes.flat, panels, strict=True):
            panel(axis, found)
            axis.legend(fontsize=7, frameon=False, handlelength=3.5)
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.spines[["top", "right"]].set_visible(False)
        _save(figure, folder / "scaling.png")
    if sections.get("volume", {}).get("streams"):
        _streams(sections["volume"]["streams"], folder / "stream.png")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _bars(axis: Any, names: list[str], values: list[float], ours: list[bool]) -> None:
    places = range(len(names))
    axis.barh(places, values, color=[OURS if own else PEERS for own in ours])
    axis.set_yticks(places, names, fontsize=7)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _throughput(found: Mapping[str, Any], path: Path) -> None:
    # One list for all panels: they share their axis of names, and a failed system has no bar.
    systems = ordered(found["systems"])
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.5), sharey=True)
    for axis, workload in zip(axes.flat, found["texts"], strict=True):
        values = [entry["ratio"].get(workload, 0.0) for _, entry in systems]
        _bars(axis, [name for name, _ in systems], values, [entry["ours"] for _, entry in systems])
        for place, value in enumerate(values):
            label = f" {value:.2f}" if value else " not measured"
            axis.text(value, place, label, va="center", fontsize=7)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{workload} texts", fontsize=10)
    figure.suptitle("Speed over sentence-transformers torch, same run")
    _save(figure, path)


def _latency(systems: Mapping[str, Any], path: Path) -> None:
    shown = [(name, entry) for name, entry in ordered(systems) if "latency_ms" in entry]
    figure, axis = plt.subplots(figsize=(8, 4.8))
    values = [entry["latency_ms"]["p50"] for _, entry in shown]
    names = [f"{name}  {value:.1f}" for (name, _), value in zip(shown, values, strict=True)]
    _bars(axis, names, values, [entry["ours"] for _, entry in shown])
    tails = [entry["latency_ms"]["p99"] for _, entry in shown]
    axis.plot(tails, range(len(shown)), "|", color="black", label="99th percentile")
    # One interrupted call would make every bar too short to be read; the table has them all.
    axis.set_xlim(0, 2 * max(values, default=1.0))
    axis.set_xlabel("milliseconds for one short text, median")
    axis.legend(fontsize=8, frameon=False)
    _save(figure, path)


def _batching(axis: Any, found: Mapping[str, Any]) -> None:
    for backend, workers in sorted({(r["backend"], r["workers"]) for r in found["rows"]}):
        rows = [r for r in found["rows"] if (r["backend"], r["workers"]) == (backend, workers)]
        axis.plot(
            [row["budget"] for row in rows],
            [row["texts_per_second"] for row in rows],
            "o-" if workers > 1 else "o--",
            color=COLORS[backend],
            label=f"{backend}, {workers} worker{'s' * (workers > 1)}",
        )
    axis.set(xlabel="batch_tokens", ylabel="texts per second, mixed lengths", xscale="log")
    axis.set_xticks(sorted({row["budget"] for row in found["rows"]}))
    axis.minorticks_off()
    axis.set_ylim(bottom=0)


def _volume(axis: Any, found: Mapping[str, Any]) -> None:
    few = max((row["texts"] for row in found["encode"]), default=0)
    for name, curve in cost_curves(found).items():
        counts, costs = zip(*curve, strict=True)
        axis.plot(counts, costs, color=COLORS[name], label=name)
        called = [point for point in curve if point[0] <= few]
        if called:
            axis.plot(*zip(*called, strict=True), "o", color=COLORS[name])
    axis.set(
        xlabel="short texts: dots in one encode, beyond streamed",
        ylabel="milliseconds per text",
        xscale="log",
        yscale="log",
    )


def _length(axis: Any, found: Mapping[str, Any]) -> None:
    for backend in sorted({row["backend"] for row in found["rows"]}):
        rows = [row for row in found["rows"] if row["backend"] == backend]
        axis.plot(
            [row["tokens"] for row in rows],
            [1e3 * row["seconds"] for row in rows],
            "o-",
            color=COLORS[backend],
            label=backend,
        )
    axis.set(xlabel="tokens of one text", ylabel="milliseconds", xscale="log", yscale="log")


def _streams(streams: Mapping[str, Any], path: Path) -> None:
    figure, (resident, speed) = plt.subplots(1, 2, figsize=(11, 4.4))
    for name, stream in streams.items():
        counts, memory, seconds = zip(*stream["trace"], strict=True)
        resident.plot(counts, memory, color=COLORS[name], label=name)
        # Over a tenth of the stream: single windows jump.
        step = max(len(counts) // 10, 1)
        rates = [
            (counts[i + step] - counts[i]) / (seconds[i + step] - seconds[i])
            for i in range(len(counts) - step)
        ]
        speed.plot(counts[step:], rates, color=COLORS[name], label=name)
    resident.set(xlabel="texts streamed", ylabel="resident memory, MB", xscale="log")
    resident.set_ylim(bottom=0)
    resident.axvline(SETTLED, color="black", linewidth=0.6, linestyle=":")
    speed.set(xlabel="texts streamed", ylabel="texts per second", xscale="log", yscale="log")
    for axis in (resident, speed):
        axis.legend(fontsize=8, frameon=False)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)
