"""From single times to what is shown: medians, and ratios within a round.

A system that failed on the way has times of the first rounds only; `zip` then compares those.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.systems import REFERENCE

#: Whose latency ours is divided by: the same runtime, the same kind of file.
SAME_RUNTIME = {
    "core torch fp32": REFERENCE,
    "core onnx fp32": "sentence-transformers onnx",
    "core onnx O3": "sentence-transformers onnx O3",
    "core onnx int8": "sentence-transformers onnx int8",
    "core onnx O2 int8": "sentence-transformers onnx int8",
    "core openvino fp32": "sentence-transformers openvino",
    "core openvino bf16": "sentence-transformers openvino",
}


def summarize_throughput(found: dict[str, Any]) -> None:
    """Add texts per second, the ratio to the reference and the share of the peak."""
    systems = found["systems"]
    reference = systems.get(REFERENCE)
    for entry in systems.values():
        entry["texts_per_second"], entry["ratio"], entry["peak_share"] = {}, {}, {}
        for name, seconds in entry["seconds"].items():
            if not seconds:
                continue
            count = entry["texts"][name]
            entry["texts_per_second"][name] = count / statistics.median(seconds)
            if reference and reference["seconds"][name]:
                size = count / reference["texts"][name]
                pairs = zip(reference["seconds"][name], seconds, strict=False)
                entry["ratio"][name] = statistics.median(size * base / own for base, own in pairs)
            shares = [
                entry["flops"][name] / own / (peak * 1e9)
                for own, peak in zip(seconds, found["sgemm_gflops"][name], strict=False)
                if peak
            ]
            if shares:
                entry["peak_share"][name] = statistics.median(shares)


def summarize_latency(found: dict[str, Any]) -> None:
    """Add the median and the 99th percentile in milliseconds, and ratios of the rounds' medians."""
    systems = found["systems"]
    medians = {
        name: [statistics.median(calls) for calls in entry["seconds"] if calls]
        for name, entry in systems.items()
    }

    def over(name: str, other: str) -> float | None:
        pairs = list(zip(medians[name], medians.get(other, []), strict=False))
        return statistics.median(own / base for own, base in pairs) if pairs else None

    for name, entry in systems.items():
        calls = [second for turn in entry["seconds"] for second in turn]
        if not calls:
            continue
        entry["latency_ms"] = {
            "p50": 1e3 * float(np.percentile(calls, 50)),
            "p99": 1e3 * float(np.percentile(calls, 99)),
        }
        entry["ratio"] = over(name, REFERENCE)
        peer = SAME_RUNTIME.get(name, "")
        # OpenVINO is bfloat16 on one processor and float32 on another: never one over the other.
        if peer in systems and systems[peer]["precision"] == entry["precision"]:
            entry["same_runtime"] = {"peer": peer, "ratio": over(name, peer)}


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def best_peer_ratio(systems: Mapping[str, Any], name: str) -> tuple[str, float]:
    """The peer of the same precision with the highest geometric mean, and ours over it."""
    own = systems[name]
    peers = {
        other: geometric_mean(entry["ratio"].values())
        for other, entry in systems.items()
        # One that failed on a length has no mean over all of them.
        if not entry["ours"]
        and entry["precision"] == own["precision"]
        and entry["ratio"].keys() == own["ratio"].keys()
    }
    if not peers or not own["ratio"]:
        return "", math.nan
    best = max(peers, key=lambda other: peers[other])
    return best, geometric_mean(own["ratio"].values()) / peers[best]
