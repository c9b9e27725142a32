"""Resident memory of the ONNX backend over many encodes of random batch shapes.

    python scripts/memory_of_onnx.py [MODEL] [--encodes 20000] [--json FILE]

Without MODEL: a tiny random BERT, exported here, so that 20,000 encodes take a minute; memory that
ONNX Runtime keeps for each shape grows the same way in it. Prints resident memory every tenth of
the way and how much it grew after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a model directory with an ONNX file")
    parser.add_argument("--encodes", type=int, default=20_000)
    parser.add_argument("--most-mb", type=float, default=20.0, help="growth that is still flat")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = core.load(parsed.model or tiny_model(Path(folder)), backend="onnx")
        measured = measure(model, parsed.encodes)
    grown = (measured[-1] - measured[0]) / 1e6
    print(f"grew by {grown:.1f} MB after the first {parsed.encodes // 10:,} encodes")
    if parsed.json:
        parsed.json.write_text(json.dumps({"resident_bytes": measured}) + "\n")
    return 0 if grown <= parsed.most_mb else 1


def measure(model: core.EmbeddingModel, encodes: int) -> list[int]:
    """Resident bytes after each tenth of the encodes."""
    choose = random.Random(0)
    words = ("fox", "stove", "jumps", "near", "a", "embedding", "sleeps", "warm", "vector", "of")
    measured = []
    for number in range(1, encodes + 1):
        rows = choose.randint(1, 12)
        texts = [" ".join(choose.choices(words, k=choose.randint(1, 100))) for _ in range(rows)]
        model.encode(texts, workers=choose.choice((None, 1)))
        if number % (encodes // 10) == 0:
            measured.append(resident_bytes())
            print(f"{number:>7,} encodes: {measured[-1] / 1e6:7.1f} MB resident", flush=True)
    return measured


def tiny_model(folder: Path) -> Path:
    from tests import tiny_models

    tiny_models.build("bert-mean", folder / "model")
    core.export(folder / "model", backend="onnx")
    return folder / "model"


if __name__ == "__main__":
    sys.exit(main())
