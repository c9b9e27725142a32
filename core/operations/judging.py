"""What an operation's caller asks of an artifact's agreement with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import OptionError, VerificationError


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


def shown_under(found: float, threshold: float) -> str:
    """A measure that a threshold is missed by, with as many digits as show that."""
    text = f"{found:.6f}"
    return text if float(text) < threshold else repr(found)
