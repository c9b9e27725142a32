"""Tables that compare the systems."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import figure, of_rounds, table
from benchmarks.summary import best_peer_ratio, geometric_mean
from benchmarks.systems import REFERENCE

Section = Mapping[str, Any]


def ordered(systems: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Ours first, then the peers."""
    return sorted(systems.items(), key=lambda item: not item[1]["ours"])


def speed(found: Section) -> str:
    names = list(found["texts"])
    rows, partial = [], []
    for name, entry in ordered(found["systems"]):
        row = [name]
        for workload in names:
            value = figure(entry["texts_per_second"].get(workload), ".1f")
            ratio = figure(entry["ratio"].get(workload), ".2f")
            row.append(f"{value} ({ratio}x)" if ratio else value)
        rows.append([*row, figure(entry.get("cosine", {}).get("min"), ".5f")])
        if entry["texts"] != found["texts"]:
            counts = ", ".join(str(entry["texts"][workload]) for workload in names)
            partial.append(f"`{name}` had {counts} of them, of the same mix of lengths.")
    head = ["texts per second", *(_described(found, name) for name in names), "min cosine"]
    return (
        f"## Throughput\n\nMedians of {of_rounds([found['rounds']])}. In brackets: texts "
        f"per second against `{REFERENCE}` with its defaults, the median of the rounds' ratios. "
        "Minimum cosine to its embeddings on the mixed texts. In the head: how many texts, "
        f"all different, and their characters. {' '.join(partial)}\n\n" + table(head, rows)
    )


def _described(found: Section, workload: str) -> str:
    shortest, longest = found["characters"][workload]
    span = f"{shortest:,}" if shortest == longest else f"{shortest:,}-{longest:,}"
    return f"{workload} ({found['texts'][workload]} of {span})"


def geometric(found: Section) -> str:
    rows = []
    for name, entry in ordered(found["systems"]):
        mean = geometric_mean(entry["ratio"].values()) if entry["ratio"] else math.nan
        best, over = best_peer_ratio(found["systems"], name) if entry["ours"] else ("", math.nan)
        rows.append(
            [
                name,
                "" if math.isnan(mean) else f"{mean:.2f}",
                f"{over:.2f} ({best})" if best else "",
            ]
        )
    return "## Geometric mean of the ratios\n\n" + table(
        ["", "over the reference", "over the best peer of its precision"], rows
    )


def peak(found: Section) -> str:
    """Empty where the matrix product could not be measured."""
    peaks = [value for values in found["sgemm_gflops"].values() for value in values if value]
    if not peaks:
        return ""
    names = list(found["texts"])
    rows = [
        [name, *(figure(entry["peak_share"].get(workload), ".0%") for workload in names)]
        for name, entry in ordered(found["systems"])
    ]
    return (
        "## Useful operations, of the measured peak\n\nMatrix products of the real tokens, without "
        "padding, over what a float32 matrix product of 1,536 x 1,536 reached in the same round in "
        "the fastest of numpy, PyTorch and ONNX Runtime "
        f"({min(peaks):.0f}-{max(peaks):.0f} GFLOP/s). int8 and bf16 are not bound by it.\n\n"
        + table(["", *names], rows)
    )


def single(found: Section) -> str:
    rows = []
    for name, entry in ordered(found["systems"]):
        if "latency_ms" not in entry:
            continue
        milliseconds = entry["latency_ms"]
        same = entry.get("same_runtime", {})
        ratio = figure(same.get("ratio"), ".2f")
        rows.append(
            [
                name,
                f"{milliseconds['p50']:.2f}",
                f"{milliseconds['p99']:.2f}",
                _times(entry.get("ratio")),
                f"{ratio}x ({same['peer']})" if ratio else "",
            ]
        )
    head = ["milliseconds", "median", "99th percentile", "of the reference", "of the same runtime"]
    return (
        f"## One short text\n\nSingle calls in {of_rounds([found['rounds']])}; ratios are "
        f"medians of the rounds'. The reference is `{REFERENCE}`; the same runtime is that in "
        "sentence-transformers, with a file of the same kind and precision.\n\n" + table(head, rows)
    )


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def footprint(sections: Mapping[str, Section]) -> str:
    """Start, memory and size, from whichever of their sections there are."""
    memory, start, size = (
        sections.get(name, {}).get("systems", {}) for name in ("throughput", "startup", "size")
    )
    rows = []
    for name, _ in ordered({**size, **start, **memory}):
        seconds = start.get(name, {}).get("seconds")
        rows.append(
            [
                name,
                f"{statistics.median(seconds):.2f} ({len(seconds)})" if seconds else "",
                figure(memory.get(name, {}).get("memory_loaded"), ".0f"),
                figure(memory.get(name, {}).get("memory", {}).get("peak"), ".0f"),
                figure(size.get(name, {}).get("megabytes"), ".0f"),
            ]
        )
    if not rows:
        return ""
    head = [
        "",
        "start to first embedding, s (starts)",
        "resident loaded, MB",
        "peak, MB",
        "installed, MB",
    ]
    return "## Start, memory, disk\n\nStarts are interleaved; the median.\n\n" + table(head, rows)


def spearman(found: Section) -> str:
    rows = [[name, f"{value:.2f}"] for name, value in found["spearman"].items()]
    if not rows:
        return ""
    return f"## Spearman on SICK ({found['pairs']:,} test pairs, x 100)\n\n" + table(
        ["", "Spearman"], rows
    )
