"""How far sparse embeddings drift: in which dimensions there are, in their values, and in the order
that dot products put texts in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.artifacts.artifact import FULL_PRECISIONS, Artifact, SparseVerification
from core.engine.ranks import rank_correlation
from core.errors import VerificationError
from core.operations.judging import Thresholds, check_comparable

#: Full-precision values agree with their source's to this, or to this part of the largest where
#: that is over 1. GELU's approximation, which optimizing may bring, moves them by a third of it.
FULL_PRECISION_VALUES = 5e-3
#: Of the dimensions of either, the share that fewer bits usually keep in both.
_REDUCED_OVERLAP = 0.8


def compare_sparse(
    expected: NDArray[np.float32], actual: NDArray[np.float32]
) -> SparseVerification:
    """Drift of `actual` from `expected`, both float32 [texts, dimension], zeros included.

    Raises:
        VerificationError: Another shape, or numbers that are not finite.
    """
    check_comparable(expected, actual, "embeddings")
    first, second = expected.astype(np.float64), actual.astype(np.float64)
    either = ((first != 0) | (second != 0)).sum(axis=1)
    both = ((first != 0) & (second != 0)).sum(axis=1)
    overlaps = np.where(either == 0, 1.0, both / np.maximum(either, 1))
    products = [(rows @ rows.T)[np.triu_indices(len(rows))] for rows in (first, second)]
    spread = float(products[0].std()) or 1.0
    difference = np.abs(products[0] - products[1])
    return SparseVerification(
        texts=len(first),
        active_dims=float((first != 0).sum(axis=1).mean()),
        mean_overlap=float(overlaps.mean()),
        min_overlap=float(overlaps.min()),
        largest_value=float(np.abs(first).max(initial=0.0)),
        max_value_difference=float(np.abs(first - second).max(initial=0.0)),
        mean_dot_difference=float(difference.mean() / spread),
        rank_correlation=rank_correlation(products[0], products[1]),
    )


def check_sparse(
    artifact: Artifact, verification: SparseVerification, thresholds: Thresholds
) -> str | None:
    """Judge a verification: None when it is good, else the warning to give.

    Full-precision artifacts are judged by their values and fail; others by the mean overlap of the
    dimensions.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
    for name in ("min_cosine", "max_score_difference"):
        thresholds.refuse(name, "sparse embeddings are judged by min_overlap")
    least, overlap = thresholds.min_overlap, verification.mean_overlap
    if artifact.precision in FULL_PRECISIONS:
        most = FULL_PRECISION_VALUES * max(verification.largest_value, 1.0)
        if verification.max_value_difference > most or overlap < (least or 0.0):
            raise VerificationError(
                f"{artifact.file_name} is {artifact.precision} and its values must agree with its "
                f"source's to {most:.2g}; they do to {verification.max_value_difference:.2g} "
                f"({verification}). Nothing was published."
            )
        return None
    threshold = _REDUCED_OVERLAP if least is None else least
    if overlap >= threshold:
        return None
    whose = "usually reached" if least is None else "asked for (min_overlap)"
    return (
        f"{artifact.file_name} drifts from its source: {verification}, under the mean overlap of "
        f"{threshold} {whose}. It was written anyway: fewer bits always drift. Check it on your "
        "own data before using it."
    )
