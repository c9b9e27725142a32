"""Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two arrays [n]; equal values share their mean rank.

    It is Pearson's correlation of the ranks (Spearman 1904). nan where one side is constant.
    """
    one, two = (_ranks(values) - (len(values) - 1) / 2 for values in (first, second))
    scale = np.sqrt((one * one).sum() * (two * two).sum())
    return float((one * two).sum() / scale) if scale else float("nan")


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """From 0; ties share the mean of the ranks they cover."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts + 1) / 2)[place]
    return ranks
