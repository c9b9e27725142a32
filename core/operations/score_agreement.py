"""How far a reranker's scores drift: by how much they differ, and in which order they put pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.artifacts.artifact import FULL_PRECISIONS, Artifact, ScoreVerification
from core.engine.ranks import rank_correlation
from core.errors import VerificationError
from core.operations.judging import Thresholds, check_comparable

#: Full-precision scores agree with their source's to this, or to this part of their spread where
#: that is over 1.
FULL_PRECISION_SCORES = 1e-3
#: The part of the spread by which the mean score of fewer bits usually differs at most.
_REDUCED_SHARE = 0.1


def compare_scores(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> ScoreVerification:
    """Drift of `actual` from `expected`, both float32 [pairs, labels].

    Raises:
        VerificationError: Another shape, or numbers that are not finite.
    """
    check_comparable(expected, actual, "scores")
    first, second = expected.astype(np.float64), actual.astype(np.float64)
    difference = np.abs(first - second)
    columns = zip(first.T, second.T, strict=True)
    return ScoreVerification(
        texts=len(first),
        spread=float(first.std(axis=0).mean()),
        mean_score_difference=float(difference.mean()),
        max_score_difference=float(difference.max()),
        rank_correlation=min(rank_correlation(a, b) for a, b in columns),
    )


def check_scores(
    artifact: Artifact, verification: ScoreVerification, thresholds: Thresholds
) -> str | None:
    """Judge a verification: None when it is good, else the warning to give.

    Full-precision artifacts are judged by their maximum difference and fail; others by their mean
    difference, or by the maximum where the caller set a threshold.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
    for name in ("min_cosine", "min_overlap"):
        thresholds.refuse(name, "scores are judged by max_score_difference")
    asked, found = thresholds.max_score_difference, verification.max_score_difference
    if artifact.precision in FULL_PRECISIONS:
        most = FULL_PRECISION_SCORES * max(verification.spread, 1.0) if asked is None else asked
        if found > most:
            raise VerificationError(
                f"{artifact.file_name} is {artifact.precision} and its scores must agree with "
                f"its source's to {most:.2g}; they do to {found:.2g} ({verification}). Nothing was "
                "published."
            )
        return None
    if asked is not None:
        drifts, whose = found > asked, f"over the difference of {asked} (max_score_difference)"
    else:
        drifts = verification.mean_score_difference > _REDUCED_SHARE * verification.spread
        whose = f"a mean over {_REDUCED_SHARE:.0%} of the scores' spread"
    if not drifts:
        return None
    return (
        f"{artifact.file_name} drifts from its source: {verification}, {whose}. It was written "
        "anyway: fewer bits always drift. Check it on your own data before using it."
    )
