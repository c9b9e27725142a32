"""Exact search over embeddings, for corpora that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import OptionError
from core.options import check_positive
from core.sentence_transformers.similarity_functions import cos_sim
from core.sentence_transformers.tensors import as_array, as_sparse, check_rows, is_sparse


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Callable[[Any, Any], Any] = cos_sim,
) -> list[list[dict[str, Any]]]:
    """The most alike rows of a corpus for each query, best first.

    Args:
        query_embeddings: [n, dimension], or one vector; sparse rows too.
        corpus_embeddings: [m, dimension]; sparse rows too.
        query_chunk_size, corpus_chunk_size: Rows compared at once.
        top_k: Results of a query, fewer where the corpus has fewer rows.
        score_function: Compares every pair of rows; larger is more alike.

    Returns:
        For each query a list of `{"corpus_id": row, "score": score}`.
    """
    for name, given in (
        ("query_embeddings", query_embeddings),
        ("corpus_embeddings", corpus_embeddings),
    ):
        check_rows(name, given)
    for name, count in (
        ("query_chunk_size", query_chunk_size),
        ("corpus_chunk_size", corpus_chunk_size),
        ("top_k", top_k),
    ):
        if check_positive(name, count) is None:
            raise OptionError(f"{name} must be 1 or more, not None.")
    if not callable(score_function):
        raise OptionError(f"score_function must be a function, not {score_function!r}.")
    if is_sparse(query_embeddings) or is_sparse(corpus_embeddings):
        # No layout of torch's can be cut into rows and compared alike.
        query_embeddings = as_sparse(query_embeddings)
        corpus_embeddings = as_sparse(corpus_embeddings)
    elif getattr(query_embeddings, "ndim", 2) == 1:
        query_embeddings = query_embeddings[None]
    results: list[list[dict[str, Any]]] = []
    for start in range(0, len(query_embeddings), query_chunk_size):
        queries = query_embeddings[start : start + query_chunk_size]
        found = []
        for first in range(0, len(corpus_embeddings), corpus_chunk_size):
            rows = corpus_embeddings[first : first + corpus_chunk_size]
            found.append(_best(as_array(score_function(queries, rows)), first, top_k))
        results += _merge(found, top_k) if found else [[] for _ in range(len(queries))]
    return results


def _best(
    scores: NDArray[Any], first_row: int, count: int
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Corpus rows and scores of the `count` largest of each row, in no order."""
    count = min(count, scores.shape[1])
    columns = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return columns + first_row, np.take_along_axis(scores, columns, axis=1)


def _merge(
    found: list[tuple[NDArray[np.intp], NDArray[Any]]], count: int
) -> list[list[dict[str, Any]]]:
    rows = np.concatenate([part for part, _ in found], axis=1)
    scores = np.concatenate([part for _, part in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        [{"corpus_id": int(rows[q, i]), "score": float(scores[q, i])} for i in line]
        for q, line in enumerate(order)
    ]
