"""Size, accuracy and speed of every variant of an ONNX model, beside its fp32 file.

    python scripts/onnx_variants.py [MODEL] --sick sick_test.tsv [--json FILE]

MODEL: a directory with `onnx/model.onnx`; without it all-MiniLM-L6-v2 is exported. Accuracy needs
the SICK test set (columns score, sentence1, sentence2). Speed is texts per second over
the fp32 file's, the median of rounds in which all variants take turns.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core
from core.engine.ranks import spearman
from core.operations.embedding_agreement import compare
from core.tuning.measure import interleaved
from scripts.compare_with_optimum import bundled_model

PLAIN = "onnx/model.onnx"
ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--sick", type=Path, required=True, help="the SICK test set, .tsv")
    parser.add_argument("--pairs", type=int, help="of SICK, at most (all)")
    parser.add_argument("--texts", type=int, default=400, help="texts a round of the speed test")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parsed = parser.parse_args()
    logging.getLogger("core").setLevel(logging.ERROR)
    pairs, scores = read_sick(parsed.sick)
    with tempfile.TemporaryDirectory(prefix="onnx-variants-") as folder:
        directory = Path(folder) / "model"
        shutil.copytree(parsed.model or bundled_model(), directory)
        files = make_variants(directory, [text for pair in pairs[-200:] for text in pair])
        rows = accuracy(directory, files, pairs[: parsed.pairs], scores[: parsed.pairs])
        for name, speed in speeds(directory, files, parsed.texts).items():
            rows[name].update(speed)
    print_table(rows)
    if parsed.json:
        parsed.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def read_sick(path: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = {name.lower(): name for name in rows[0]}
    first = next(names[n] for n in ("sentence1", "sentence_a") if n in names)
    second = next(names[n] for n in ("sentence2", "sentence_b") if n in names)
    score = next(names[n] for n in ("score", "relatedness_score") if n in names)
    return [(r[first], r[second]) for r in rows], np.array([float(r[score]) for r in rows])


def make_variants(directory: Path, calibration: list[str]) -> list[str]:
    """Every file, the fp32 one first."""
    if not (directory / PLAIN).is_file():
        core.export(directory, backend="onnx")
    files = [PLAIN]
    with core.load(directory, backend="onnx", file_name=PLAIN) as model:
        files += [model.optimize(level).file_name for level in ("O2", "O3", "O4")]
        files += [model.quantize(preset).file_name for preset in ("avx2", "avx512_vnni")]
        files.append(model.quantize("avx2", calibration=calibration).file_name)
    with core.load(directory, backend="onnx", file_name="onnx/model_O2.onnx") as model:
        files += [model.quantize(preset).file_name for preset in ("avx2", "avx512_vnni")]
    return files


def accuracy(
    directory: Path, files: list[str], pairs: list[tuple[str, str]], scores: np.ndarray
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    texts = [text for pair in pairs for text in pair]
    expected = None
    for name in files:
        with core.load(directory, backend="onnx", file_name=name) as model:
            found = model.encode(texts, normalize_embeddings=True)
        expected = found if expected is None else expected
        drift = compare(expected, found)
        rows[name] = {
            "megabytes": (directory / name).stat().st_size / 1e6,
            "mean_cosine": drift.mean_cosine,
            "min_cosine": drift.min_cosine,
            "spearman": 100 * spearman((found[::2] * found[1::2]).sum(axis=1), scores),
        }
    return rows


def speeds(directory: Path, files: list[str], count: int) -> dict[str, dict[str, float]]:
    """Texts per second relative to the fp32 file: short texts, and texts of 150 words."""
    short = [f"a short text of a dozen words or so, with the number {i}" for i in range(count)]
    long = [" ".join(short[i : i + 12]) for i in range(0, count, 12)]
    models = {n: core.load(directory, backend="onnx", file_name=n) for n in files}
    found: dict[str, dict[str, float]] = {name: {} for name in files}
    for what, texts in (("short", short), ("long", long)):
        timings = interleaved(
            {name: partial(_encode, model, texts) for name, model in models.items()}, rounds=ROUNDS
        )
        for name in files:
            found[name][f"speed_{what}"] = timings[name].speed_over(timings[PLAIN]).median
    for model in models.values():
        model.close()
    return found


def _encode(model: core.EmbeddingModel, texts: list[str], round_number: int) -> None:
    model.encode(texts, show_progress_bar=False)


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    print(
        "| file | MB | SICK Spearman | cosine to fp32: mean | minimum | short texts | long texts |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        print(
            f"| `{name.rpartition('/')[2]}` | {row['megabytes']:.1f} | {row['spearman']:.2f} "
            f"| {row['mean_cosine']:.5f} | {row['min_cosine']:.4f} "
            f"| {row['speed_short']:.2f}x | {row['speed_long']:.2f}x |"
        )


if __name__ == "__main__":
    sys.exit(main())
