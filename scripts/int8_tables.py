"""The tables of int8 in docs/performance.md: speed by instruction set, closeness and quality.

    python scripts/int8_tables.py MODEL [--base CHECKOUT] [--only native avx2 closeness quality]

MODEL is a directory with PyTorch weights, ONNX and OpenVINO files (`core.export` writes them).

- `native` is speed as the processor is. `avx2` is speed with the instruction sets above AVX2 hidden
  from PyTorch by its own switches, and from core. ONNX Runtime has no such switch, and OpenVINO's
  int8 weights do not run with oneDNN's ("could not create a primitive descriptor", 2026.4): these
  two are measured on a processor of that kind only.
- `closeness` compares embeddings with float32: cosines, the share of each text's nearest neighbours
  that stay, and each text alone against in a batch.
- `quality` is Spearman's correlation and NDCG@10, on the data that the benchmark uses.

Every system runs in a process of its own, and they take turns. Speeds need an idle machine. With
--base, a checkout of another commit, the defaults there are measured as well.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks.quality import tasks  # noqa: E402
from scripts.int8_against_base import (  # noqa: E402
    AVX2_ONLY,
    LENGTHS,
    SYSTEMS,
    Process,
    System,
    operations,
    print_speeds,
    prose_of,
    recall,
    speeds,
)
from scripts.openvino_quantization import cosines, prose  # noqa: E402

PARTS = ("native", "avx2", "closeness", "quality")
#: What `avx2` is told to PyTorch by, and to `int8_against_base.serve`.
_SWITCHES = {
    AVX2_ONLY: "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_BACKENDS, _SWITCHED = ("onnx", "openvino", "torch"), ("torch",)
#: Texts that closeness is told by, how many of them are encoded alone too, and sentences.
_TEXTS, _ALONE, _SENTENCES = 500, 60, 1_000
_REFERENCE = "torch fp32"


@contextmanager
def started(
    folder: Path,
    base: Path | None,
    backends: Collection[str],
    switches: Mapping[str, str],
) -> Iterator[dict[str, Process]]:
    """Every system of these backends, in a process of its own."""
    with ExitStack() as stack:
        yield {
            system.name: stack.enter_context(
                closing(Process(system, folder, base or ROOT, switches))
            )
            for system in SYSTEMS
            if system.backend in backends and _is_asked_for(system, base)
        }


def _is_asked_for(system: System, base: Path | None) -> bool:
    return base is not None if system.base else system.config in (None, "")


def print_speed(
    folder: Path, base: Path | None, rounds: int, part: str, flops: Mapping[str, float]
) -> None:
    """One table of speeds."""
    switches = _SWITCHES if part == "avx2" else {}
    backends = _SWITCHED if part == "avx2" else _BACKENDS
    with started(folder, base, backends, switches) as running:
        measured, peak = speeds(running, rounds)
    what = "instructions above AVX2 hidden" if switches else f"peak {peak / 1e9:.0f} GFLOP/s"
    print(f"\nSpeed, {part}: {what}; medians of {rounds} rounds\n")
    print_speeds(measured, dict(flops), peak)


def print_closeness(running: Mapping[str, Process]) -> None:
    """Cosines to float32, neighbours kept, and each text alone against in a batch."""
    texts = prose(_TEXTS, seed=11)
    kinds = {"prose": texts, "sentences": sentences()}
    expected = {kind: running[_REFERENCE].encode(given) for kind, given in kinds.items() if given}
    print(f"\nCloseness to {_REFERENCE}, {_TEXTS} texts and {len(kinds['sentences'])} sentences\n")
    print(
        "| | mean | 1st percentile | minimum | recall@10 | recall@10, sentences | "
        "alone: cosine, difference |"
    )
    print("| --- |" + " ---: |" * 6)
    for name, process in running.items():
        found = {kind: process.encode(kinds[kind]) for kind in expected}
        drift = cosines(found["prose"], expected["prose"])
        kept = [
            f"{recall(expected[kind], found[kind]):.3f}" if kind in found else "-" for kind in kinds
        ]
        few = texts[:_ALONE]
        alone, together = process.encode(few, alone=True), process.encode(few)
        print(
            f"| {name} | {drift.mean():.4f} | {np.percentile(drift, 1):.4f} | {drift.min():.4f} | "
            f"{kept[0]} | {kept[1]} | {cosines(alone, together).min():.6f}, "
            f"{np.abs(alone - together).max():.5f} |",
            flush=True,
        )


def sentences() -> list[str]:
    """Some of those whose similarity people judged; none where the data are not at hand."""
    found = [task for task in tasks(None, None) if task.measure == "Spearman"]
    texts = sorted(set(found[0].texts)) if found else []
    random.Random(0).shuffle(texts)
    return texts[:_SENTENCES]


def print_quality(running: Mapping[str, Process]) -> None:
    """Figures on data with human judgments."""
    measured = tasks(None, None)
    print("\nQuality, x 100\n")
    print("| | " + " | ".join(task.name for task in measured) + " |")
    print("| --- |" + " ---: |" * len(measured))
    for name, process in running.items():
        figures = [f"{task.score(process.encode(task.texts)):.2f}" for task in measured]
        print(f"| {name} | " + " | ".join(figures) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        shutil.copytree(arguments.model, folder)
        for part in (part for part in ("native", "avx2") if part in arguments.only):
            flops = {
                length: operations(folder, prose_of(words, 20))
                for length, (words, _) in LENGTHS.items()
            }
            print_speed(folder, arguments.base, arguments.rounds, part, flops)
        if {"closeness", "quality"}.intersection(arguments.only):
            with started(folder, arguments.base, _BACKENDS, {}) as running:
                if "closeness" in arguments.only:
                    print_closeness(running)
                if "quality" in arguments.only:
                    print_quality(running)


if __name__ == "__main__":
    if os.environ.get(AVX2_ONLY):
        raise SystemExit(f"{AVX2_ONLY} is set by this script for its processes alone.")
    main()
