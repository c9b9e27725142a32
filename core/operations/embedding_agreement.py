"""How far embeddings drift: the cosine of what source and artifact give for the same texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.architecture.modules import unit_length
from core.artifacts.artifact import Artifact, Verification
from core.engine.similarity import row_cosines
from core.operations.judging import Thresholds, check_comparable, check_cosines


def compare(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> Verification:
    """Drift of `actual` from `expected`, both float32 [n, dimension], row by row.

    Raises:
        VerificationError: Another shape, or numbers that are not finite.
    """
    check_comparable(expected, actual, "embeddings")
    first = unit_length(np, expected.astype(np.float64))
    second = unit_length(np, actual.astype(np.float64))
    cosines = row_cosines(expected, actual)
    return Verification(
        texts=len(cosines),
        mean_cosine=float(cosines.mean()),
        p1_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        max_abs_difference=float(np.abs(first - second).max()),
    )


def check_embeddings(
    artifact: Artifact, verification: Verification, thresholds: Thresholds
) -> str | None:
    """As `check_cosines`."""
    for name in ("max_score_difference", "min_overlap"):
        thresholds.refuse(name, "embeddings are judged by min_cosine")
    return check_cosines(artifact, verification, thresholds.min_cosine)
