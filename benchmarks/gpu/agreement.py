"""How far two sets of embeddings of the same texts are apart, and how far they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The least cosine to float32 that is right. "auto" chooses what computes right.
FLOORS = {"float32": 0.99999, "float16": 0.9999, "bfloat16": 0.998}


def compare(
    found: NDArray[np.float32], expected: NDArray[np.float32], dtype: str
) -> dict[str, Any]:
    """Least and mean cosine of the rows, and whether the least is right for this dtype.

    A row that is not finite, or of another shape, is wrong.
    """
    if found.shape != expected.shape:
        return {"passed": False, "error": f"shape {found.shape} instead of {expected.shape}"}
    a, b = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(1) / np.maximum(lengths, 1e-30)
    least = float(cosines.min())
    return {
        "passed": bool(np.isfinite(a).all() and least >= FLOORS[dtype]),
        "min_cosine": least,
        "mean_cosine": float(cosines.mean()),
        "max_difference": float(np.abs(a - b).max()),
    }


def alikeness(embeddings: NDArray[np.float32]) -> float:
    """The mean cosine of two different texts: near 1, agreement would mean nothing."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    count = len(unit)
    return float((np.sum(unit @ unit.T) - count) / (count * (count - 1)))
