"""What an operation's caller asks of an artifact's agreement with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.artifacts.artifact import (
    FULL_PRECISIONS,
    Artifact,
    VectorVerification,
    Verification,
)
from core.errors import OptionError, VerificationError
from core.options import FULL_PRECISION_MIN_COSINE

#: The mean cosine that fewer bits usually reach.
REDUCED_MEAN_COSINE = 0.97


@dataclass(frozen=True)
class Thresholds:
    """The caller's; None for the default of each.

    Attributes:
        min_cosine: Of embeddings.
        max_score_difference: Of a reranker's scores.
        min_overlap: Of the dimensions of sparse embeddings.
    """

    min_cosine: float | None = None
    max_score_difference: float | None = None
    min_overlap: float | None = None

    @classmethod
    def of(cls, options: Any) -> Thresholds:
        """Those in the options of an export, an optimization or a quantization."""
        return cls(options.min_cosine, options.max_score_difference, options.min_overlap)

    def refuse(self, name: str, why: str) -> None:
        """Raise `OptionError` where a threshold is given that another kind of model has."""
        if getattr(self, name) is not None:
            raise OptionError(f"{name} is for another kind of model: {why}. Leave it out.")


def check_comparable(expected: NDArray[np.float32], actual: NDArray[np.float32], what: str) -> None:
    """Refuse results that no measure can judge.

    Args:
        expected: The source's, one row for each input.
        actual: The artifact's.
        what: `"embeddings"` or `"scores"`.

    Raises:
        VerificationError: Another shape, or numbers that are not finite.
    """
    inner = tuple(range(1, expected.ndim))
    odd = len(expected) - int(np.isfinite(expected).all(axis=inner).sum())
    if odd:
        raise VerificationError(
            f"The source itself gives {what} that are not finite numbers for {odd} of "
            f"{len(expected)} probe texts: nothing can be compared with them, and nothing was "
            "published. Look for NaN, infinity or very large values in its weights."
        )
    if expected.shape != actual.shape:
        raise VerificationError(
            f"The artifact gives {what} of shape {list(actual.shape)}, its source "
            f"{list(expected.shape)}."
        )
    if not np.isfinite(actual).all():
        raise VerificationError(
            f"The artifact gives {what} that are not finite numbers; it is not published."
        )


def check_cosines(
    artifact: Artifact, verification: Verification | VectorVerification, min_cosine: float | None
) -> str | None:
    """Judge a verification: None when it is good, else the warning to give.

    Full-precision artifacts are judged by their minimum cosine and fail; others by the mean.

    Args:
        min_cosine: The caller's threshold; None for the default one.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
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
    threshold = REDUCED_MEAN_COSINE if min_cosine is None else min_cosine
    if verification.mean_cosine >= threshold:
        return None
    whose = "usually reached" if min_cosine is None else "asked for (min_cosine)"
    return (
        f"{artifact.file_name} drifts from its source: {verification}, under the mean of "
        f"{threshold} {whose}. It was written anyway: fewer bits always drift. Check it on your "
        "own data before using it."
    )


def shown_under(found: float, threshold: float) -> str:
    """A measure that a threshold is missed by, with as many digits as show that."""
    text = f"{found:.6f}"
    return text if float(text) < threshold else repr(found)
