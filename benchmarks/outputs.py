"""What all kinds of embeddings in one pass cost over the dense ones alone, on every backend.

    python -m benchmarks.outputs [--layers 24] [--hidden 1024] [--vocabulary 250002] [--rounds 7]

By default a model of the shape of bge-m3 with random weights: each file takes 2.3 GB. Both calls
embed the same texts in interleaved rounds; the ratio is that of a round.
"""

from __future__ import annotations

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import core
from benchmarks import texts
from benchmarks.checkpoints import xlm_roberta
from benchmarks.loaded import BACKENDS
from benchmarks.model_files import DERIVED, WORK, exported
from core.architecture.token_heads import HEAD_FILES
from core.tuning.measure import interleaved

_OUTPUTS = ("dense", "sparse", "multi_vector")
_POSITIONS = 8_192


def model(layers: int, hidden: int, vocabulary: int) -> Path:
    """A model of this size with both heads; made once."""
    folder = WORK / f"outputs-{layers}x{hidden}"
    if not folder.exists():
        import torch

        plain = xlm_roberta(layers, hidden, _POSITIONS, vocabulary, head=64)
        staging = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(plain, staging, ignore=DERIVED)
        torch.manual_seed(1)
        for name, rows in (("sparse", 1), ("multi_vector", hidden)):
            torch.save(torch.nn.Linear(hidden, rows).state_dict(), staging / HEAD_FILES[name])
        staging.rename(folder)
    for backend in BACKENDS:
        if backend != "torch":
            exported(folder, backend)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1_024)
    parser.add_argument("--vocabulary", type=int, default=250_002)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=32)
    parsed = parser.parse_args()
    folder = model(parsed.layers, parsed.hidden, parsed.vocabulary)
    given = texts.of_characters([40 + 1_160 * n // parsed.texts for n in range(parsed.texts)])
    for backend in BACKENDS:
        with core.load(folder, backend=backend, device="cpu", export=False) as loaded:
            acts: dict[str, Any] = {
                "dense": partial(_encode, loaded, given, None),
                "all": partial(_encode, loaded, given, _OUTPUTS),
            }
            timings = interleaved(acts, rounds=parsed.rounds)
        ratio = timings["dense"].speed_over(timings["all"])
        print(
            f"{backend:10} dense {timings['dense'].median:.3f} s, all three "
            f"{timings['all'].median:.3f} s: {ratio.median:.3f} times as long (rounds differ "
            f"by {ratio.spread:.1%})",
            flush=True,
        )


def _encode(loaded: core.EmbeddingModel, given: list[str], outputs: Any, turn: int) -> None:
    loaded.encode([f"{turn} {text}" for text in given], outputs=outputs)


if __name__ == "__main__":
    main()
