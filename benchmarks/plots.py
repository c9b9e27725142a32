"""Plots of a run's JSON. Needs matplotlib (benchmarks/requirements.txt)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

WORKLOADS = ("short", "middle", "long", "mixed")
OURS, PEERS = "#1f6fb2", "#b8b8b8"
COLOURS = {"onnx": "#1f6fb2", "openvino": "#7a3fb0", "torch": "#d9622b"}


def draw(result: dict[str, Any], folder: Path) -> None:
    if "systems" in result:
        _throughput(result, folder / "throughput.png")
        _latency(result, folder / "latency.png")
    if "scaling" in result:
        _scaling(result["scaling"], folder / "scaling.png")
        _memory(result["scaling"], folder / "stream.png")


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


def _throughput(result: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharey=True)
    for axis, workload in zip(axes.flat, WORKLOADS, strict=True):
        shown = [(n, e) for n, e in result["systems"].items() if workload in e["ratio"]]
        values = [e["ratio"][workload] for _, e in shown]
        _bars(axis, [n for n, _ in shown], values, [e["ours"] for _, e in shown])
        for place, value in enumerate(values):
            axis.text(value, place, f" {value:.2f}", va="center", fontsize=7)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{workload} texts", fontsize=10)
    figure.suptitle("Speed over sentence-transformers torch, same run")
    _save(figure, path)


def _latency(result: dict[str, Any], path: Path) -> None:
    shown = [(n, e) for n, e in result["systems"].items() if "latency_ms" in e]
    figure, axis = plt.subplots(figsize=(8, 4.5))
    values = [e["latency_ms"]["p50"] for _, e in shown]
    _bars(axis, [n for n, _ in shown], values, [e["ours"] for _, e in shown])
    tails = [e["latency_ms"]["p99"] for _, e in shown]
    axis.plot(tails, range(len(shown)), "|", color="black", label="99th percentile")
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds for one short text, median")
    axis.legend(fontsize=8, frameon=False)
    _save(figure, path)


def _scaling(found: dict[str, Any], path: Path) -> None:
    figure, (budget, number, length) = plt.subplots(1, 3, figsize=(14, 4.2))
    for backend, workers in sorted({(r["backend"], r["workers"]) for r in found["budget"]}):
        rows = [r for r in found["budget"] if (r["backend"], r["workers"]) == (backend, workers)]
        budget.plot(
            [r["budget"] for r in rows],
            [r["texts_per_second"] for r in rows],
            "o-" if workers > 1 else "o--",
            color=COLOURS[backend],
            label=f"{backend}, {workers} worker{'s' * (workers > 1)}",
        )
    budget.set(xlabel="batch_tokens", ylabel="texts a second, mixed lengths", xscale="log")
    for backend in sorted({r["backend"] for r in found["number"]}):
        rows = [r for r in found["number"] if r["backend"] == backend]
        number.plot(
            [r["texts"] for r in rows],
            [1e3 * r["seconds"] / r["texts"] for r in rows],
            "o-",
            color=COLOURS[backend],
            label=backend,
        )
    number.set(xlabel="texts in one call", ylabel="milliseconds a text", xscale="log", yscale="log")
    rows = found["length"]
    length.plot([r["tokens"] for r in rows], [1e3 * r["seconds"] for r in rows], "o-", color=OURS)
    length.set(xlabel="tokens of one text", ylabel="milliseconds", xscale="log", yscale="log")
    for axis in (budget, number):
        axis.legend(fontsize=7, frameon=False)
        axis.set_ylim(bottom=0) if axis is budget else None
    _save(figure, path)


def _memory(found: dict[str, Any], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(8, 4))
    for key, label in (("stream", "all-MiniLM-L6-v2"), ("stream_tiny", "a 2-layer model")):
        trace = found.get(key, {}).get("trace", [])
        axis.plot([point[0] for point in trace], [point[1] for point in trace], label=label)
    axis.set(xlabel="texts streamed", ylabel="resident memory, MB", xscale="log")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    _save(figure, path)
