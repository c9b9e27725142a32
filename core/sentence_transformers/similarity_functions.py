"""The reference's similarity functions: `core.similarity`, with tensors as results."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from core.engine.similarity import similarity, similarity_pairwise
from core.engine.sparse_similarity import sparse_similarity, sparse_similarity_pairwise
from core.errors import OptionError
from core.sentence_transformers.late_interaction import (
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
)
from core.sentence_transformers.tensors import (
    as_array,
    as_sparse,
    as_tensor,
    is_sparse,
    is_tensor,
)

Comparison = Callable[[Any, Any], Any]


def every_pair(a: Any, b: Any, function: str) -> Any:
    """Every row of `a` against every row of `b`: a float32 tensor [len(a), len(b)].

    Without torch installed, an array of the same values. Either side may be sparse.
    """
    if is_sparse(a) or is_sparse(b):
        return _beside(sparse_similarity(as_sparse(a), as_sparse(b), function), a)
    return _beside(similarity(a, b, function), a)


def row_by_row(a: Any, b: Any, function: str) -> Any:
    """Each row of `a` against the same row of `b`: a float32 tensor [n].

    One vector goes with every row of the other; of two vectors there is one value, []. Either side
    may be sparse.
    """
    if is_sparse(a) or is_sparse(b):
        return _sparse_row_by_row(a, b, function)
    first, second = as_array(a), as_array(b)
    if max(first.ndim, second.ndim) == 1:
        return _beside(similarity_pairwise(first, second, function)[0], a)
    if min(first.ndim, second.ndim) == 1 and first.shape[-1] == second.shape[-1]:
        first, second = np.broadcast_arrays(first, second)
    return _beside(similarity_pairwise(first, second, function), a)


def _sparse_row_by_row(a: Any, b: Any, function: str) -> Any:
    first, second = as_sparse(a), as_sparse(b)
    single = [getattr(side, "ndim", 2) == 1 for side in (a, b)]
    if single[0] and not single[1]:
        first = first[np.zeros(len(second), dtype=np.int64)]
    elif single[1] and not single[0]:
        second = second[np.zeros(len(first), dtype=np.int64)]
    result = sparse_similarity_pairwise(first, second, function)
    return _beside(result[0] if all(single) else result, a)


def _beside(result: Any, embeddings: Any) -> Any:
    # A tensor's device is where its similarities are expected.
    return as_tensor(result, device=embeddings.device if is_tensor(embeddings) else None)


def cos_sim(a: Any, b: Any) -> Any:
    """Cosine of every pair of rows: a float32 tensor [len(a), len(b)]."""
    return every_pair(a, b, "cosine")


def dot_score(a: Any, b: Any) -> Any:
    """Dot product of every pair of rows: a float32 tensor [len(a), len(b)]."""
    return every_pair(a, b, "dot")


def euclidean_sim(a: Any, b: Any) -> Any:
    """Negated distance of every pair of rows: a float32 tensor [len(a), len(b)]."""
    return every_pair(a, b, "euclidean")


def manhattan_sim(a: Any, b: Any) -> Any:
    """Negated sum of differences of every pair of rows: a float32 tensor [len(a), len(b)]."""
    return every_pair(a, b, "manhattan")


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """Cosine of each row and the same row of the other: a float32 tensor [n]."""
    return row_by_row(a, b, "cosine")


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """Dot product of each row and the same row of the other: a float32 tensor [n]."""
    return row_by_row(a, b, "dot")


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """Negated distance of each row and the same row of the other: a float32 tensor [n]."""
    return row_by_row(a, b, "euclidean")


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """Negated sum of differences of each row and the other's: a float32 tensor [n]."""
    return row_by_row(a, b, "manhattan")


class SimilarityFunction(Enum):
    """Names of the similarity functions."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # noqa: PIE796 - the reference has both names
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MAXSIM = "maxsim"
    MEAN_MAXSIM = "meanmaxsim"

    @staticmethod
    def possible_values() -> list[str]:
        """Every name once."""
        return [member.value for member in SimilarityFunction]

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Comparison:
        """The function that compares every pair of rows: `cos_sim` of "cosine".

        Raises:
            OptionError: No such name. It is a ValueError too.
        """
        return _EVERY_PAIR[_member(similarity_function)]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Comparison:
        """The function that compares row by row: `pairwise_cos_sim` of "cosine".

        Raises:
            OptionError: No such name. It is a ValueError too.
        """
        return _ROW_BY_ROW[_member(similarity_function)]


_EVERY_PAIR: dict[SimilarityFunction, Comparison] = {
    SimilarityFunction.COSINE: cos_sim,
    SimilarityFunction.DOT_PRODUCT: dot_score,
    SimilarityFunction.EUCLIDEAN: euclidean_sim,
    SimilarityFunction.MANHATTAN: manhattan_sim,
    SimilarityFunction.MAXSIM: maxsim,
    SimilarityFunction.MEAN_MAXSIM: mean_maxsim,
}
_ROW_BY_ROW: dict[SimilarityFunction, Comparison] = {
    SimilarityFunction.COSINE: pairwise_cos_sim,
    SimilarityFunction.DOT_PRODUCT: pairwise_dot_score,
    SimilarityFunction.EUCLIDEAN: pairwise_euclidean_sim,
    SimilarityFunction.MANHATTAN: pairwise_manhattan_sim,
    SimilarityFunction.MAXSIM: maxsim_pairwise,
    SimilarityFunction.MEAN_MAXSIM: mean_maxsim_pairwise,
}


def _member(name: str | SimilarityFunction) -> SimilarityFunction:
    try:
        return SimilarityFunction(name)
    except ValueError as error:
        listed = ", ".join(map(repr, SimilarityFunction.possible_values()))
        raise OptionError(f"A similarity function is one of {listed}, not {name!r}.") from error
