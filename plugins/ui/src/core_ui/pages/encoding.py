"""Two variants on the same texts: `core encode` for each, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_ui.jobs import Job
from core_ui.sessions import Variant


def compare_steps(variants: Sequence[Variant], folder: Path, texts: str) -> list[list[str]]:
    """A command line for each variant."""
    return [
        [
            "encode",
            *variant.words(),
            "--input",
            str(folder / texts),
            "--normalize",
            "--output",
            str(folder / _embeddings(number)),
            "--json",
        ]
        for number, variant in enumerate(variants)
    ]


def cosines_of(job: Job, count: int) -> tuple[NDArray[Any], ...]:
    """Cosine similarities [texts, texts] float32 by each variant, of a job that is done."""
    found = []
    for number in range(count):
        embeddings = np.load(job.folder / _embeddings(number), allow_pickle=False)
        found.append(embeddings @ embeddings.T)
    return tuple(found)


def _embeddings(number: int) -> str:
    return f"embeddings-{number + 1}.npy"
