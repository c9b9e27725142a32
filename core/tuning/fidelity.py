"""How far embeddings drift from those of float32, measured on texts without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.engine.ranks import spearman
from core.engine.similarity import row_cosines, similarity, similarity_pairwise

Floats = NDArray[np.float32]

#: Neighbours that are compared.
NEIGHBOURS = 10

_NEGLIGIBLE = 0.001

_PAIRS = 20_000
_RESAMPLES = 1_000
_SEED = 7
#: Rows of a similarity matrix held at once.
_BLOCK = 1_024


@dataclass(frozen=True)
class Fidelity:
    """Embeddings against those of the float32 reference, on the same texts.

    Attributes:
        texts: How many were compared.
        mean_cosine: Mean over the texts of the cosine between both embeddings.
        p1_cosine: First percentile of it.
        min_cosine: Minimum of it.
        spearman: Rank correlation of the similarities of text pairs (all pairs, or 20,000 chosen
            at random).
        recall_at_10: Share of each text's ten nearest among the others that are also its nearest
            by the reference, averaged over the texts. With fewer than 21 texts it counts fewer
            neighbours: half of the others.
        recall_interval: 95 % of bootstrap resamples of the texts have a recall in it.
        mixed_recall_at_10: The same where only the text itself is embedded anew and the others are
            the reference's: whether an index of float32 embeddings can be kept.
    """

    texts: int
    mean_cosine: float
    p1_cosine: float
    min_cosine: float
    spearman: float
    recall_at_10: float
    recall_interval: tuple[float, float]
    mixed_recall_at_10: float

    def as_good_as(self, other: Fidelity) -> bool:
        """Whether neither recall nor the minimum cosine is lower by more than a thousandth."""
        recall = self.recall_at_10 >= other.recall_at_10 - _NEGLIGIBLE
        return recall and self.min_cosine >= other.min_cosine - _NEGLIGIBLE


def compare(reference: Floats, found: Floats, similarity_fn_name: str) -> Fidelity:
    """The drift of `found` from `reference`, both float32 [texts, dimension], row by row.

    Args:
        similarity_fn_name: How the model compares, which says what a neighbour is.
    """
    cosines = row_cosines(reference, found)
    expected = nearest(reference, reference, similarity_fn_name)
    recalls = overlap(expected, nearest(found, found, similarity_fn_name))
    mixed = overlap(expected, nearest(found, reference, similarity_fn_name))
    return Fidelity(
        texts=len(reference),
        mean_cosine=float(cosines.mean()),
        p1_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        spearman=_pairs_alike(reference, found, similarity_fn_name),
        recall_at_10=float(recalls.mean()),
        recall_interval=_bootstrap(recalls),
        mixed_recall_at_10=float(mixed.mean()),
    )


def nearest(queries: Floats, documents: Floats, similarity_fn_name: str) -> NDArray[np.intp]:
    """The most similar documents of each query but the one of its own number: [queries, k].

    k is 10, or half of the other documents where that is fewer.
    """
    k = max(min(NEIGHBOURS, (len(documents) - 1) // 2), 1)
    found = []
    for start in range(0, len(queries), _BLOCK):
        block = similarity(queries[start : start + _BLOCK], documents, similarity_fn_name)
        rows = np.arange(len(block))
        block[rows, rows + start] = -np.inf
        # A stable order: equal documents do not change places between two encodings.
        found.append(np.argsort(-block, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)


def overlap(expected: NDArray[np.intp], found: NDArray[np.intp]) -> NDArray[np.float64]:
    """The share of each row's `expected` that its `found` holds, in any order: float64 [rows]."""
    shared = (expected[:, :, None] == found[:, None, :]).any(axis=2)
    share: NDArray[np.float64] = shared.mean(axis=1)
    return share


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    choose = np.random.default_rng(_SEED)
    means = values[choose.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _pairs_alike(reference: Floats, found: Floats, similarity_fn_name: str) -> float:
    count = len(reference)
    if count * (count - 1) // 2 <= _PAIRS:
        first, second = np.triu_indices(count, 1)
    else:
        choose = np.random.default_rng(_SEED)
        first = choose.integers(0, count, _PAIRS)
        second = (first + choose.integers(1, count, _PAIRS)) % count
    pairs = [
        _pair_similarities(rows, first, second, similarity_fn_name) for rows in (reference, found)
    ]
    return spearman(*pairs)


def _pair_similarities(
    rows: Floats, first: NDArray[np.intp], second: NDArray[np.intp], similarity_fn_name: str
) -> NDArray[np.float32]:
    return similarity_pairwise(rows[first], rows[second], similarity_fn_name)
