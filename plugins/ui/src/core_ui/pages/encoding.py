"""Two variants on the same texts: `core encode` for each, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_ui.jobs import Job
from core_ui.sessions import Variant


def compare_steps(pair: tuple[Variant, Variant], folder: Path, texts: str) -> list[list[str]]:
    """A command line for each."""
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
        for number, variant in enumerate(pair)
    ]


def cosines_of(job: Job) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine similarities [texts, texts] by each of the two, of a job that is done."""
    return _cosines(job, 0), _cosines(job, 1)


def _cosines(job: Job, number: int) -> NDArray[np.float32]:
    embeddings = np.load(job.folder / _embeddings(number), allow_pickle=False)
    found: NDArray[np.float32] = embeddings @ embeddings.T
    return found


def _embeddings(number: int) -> str:
    return f"embeddings-{number + 1}.npy"
