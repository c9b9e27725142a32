"""How far embeddings drift: the cosine of what source and artifact give for the same texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.architecture.modules import unit_length
from core.artifacts.artifact import FULL_PRECISIONS, Artifact, Verification
from core.engine.similarity import row_cosines
from core.errors import VerificationError
from core.operations.judging import Thresholds, check_comparable, shown_under
from core.options import FULL_PRECISION_MIN_COSINE

#: What fewer bits usually reach.
_REDUCED_MEAN_COSINE = 0.97


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
    """Judge a verification: None when it is good, else the warning to give.

    Full-precision artifacts are judged by their minimum cosine and fail; others by their mean
    cosine, and only when the caller set a threshold.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
    for name in ("max_score_difference", "min_overlap"):
        thresholds.refuse(name, "embeddings are judged by min_cosine")
    min_cosine = thresholds.min_cosine
    if artifact.precision in FULL_PRECISIONS:
        threshold = FULL_PRECISION_MIN_COSINE if min_cosine is None else min_cosine
        if verification.min_cosine < threshold:
            raise VerificationError(
                f"{artifact.file_name} is {artifact.precision} and must agree with its source to a "
                f"minimum cosine of {threshold}; it reaches "
                f"{shown_under(verification.min_cosine, threshold)} ({verification}). Nothing was "
                "published."
            )
        return None
    threshold = _REDUCED_MEAN_COSINE if min_cosine is None else min_cosine
    if verification.mean_cosine < threshold:
        whose = "usually reached" if min_cosine is None else "asked for (min_cosine)"
        return (
            f"{artifact.file_name} drifts from its source: {verification}, under the mean of "
            f"{threshold} {whose}. It was written anyway: fewer bits always drift. Check it "
            "on your own data before using it."
        )
    return None
