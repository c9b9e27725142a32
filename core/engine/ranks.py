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


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's correlation of numbers that differ by rounding as well: what is as good as equal
    shares a rank. Where all numbers of one are equal, 1 if those of the other are the same."""
    spread = float(first.std()) or 1.0
    # Rounding alone must not put one of two equal numbers before the other.
    found = spearman(*(np.round(values / spread, 4) for values in (first, second)))
    if np.isnan(found):  # one of them puts all on one rank
        return 1.0 if np.allclose(first, second) else 0.0
    return found
