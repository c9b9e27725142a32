"""Late interaction: how alike texts are of which every token has a vector.

MaxSim of a query and a document is the sum, over the vectors of the query, of the largest dot
product with any vector of the document (ColBERT, https://arxiv.org/abs/2004.12832). Its mean over
the query's vectors compares queries of different lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.late_interaction import MAXSIM_FUNCTIONS as MAXSIM_FUNCTIONS
from core.engine.similarity import as_embeddings
from core.errors import OptionError

Float32 = NDArray[np.float32]

#: Of a document without vectors: below every other, as in sentence-transformers.
EMPTY_DOCUMENT = np.float32(-1e9)

#: Vectors of one side compared at a time.
_ROWS = 2048

#: Dot products held at a time: 2 MB, which stay in a processor's cache.
_PRODUCTS = 2**19


def maxsim(a: Any, b: Any, function: str = "maxsim") -> Float32:
    """Every query of `a` against every document of `b`: float32 [len(a), len(b)].

    Memory for dot products is bounded, however many and however long the documents are.

    Args:
        a, b: Lists of arrays or tensors [tokens, dimension]; or one such array, as a list of one;
            or [n, tokens, dimension], whose rows of zeros are padding.
        function: `maxsim`, or `meanmaxsim` for the mean over a query's vectors.

    Returns:
        A document without vectors scores -1e9, below every other. A query without scores 0.

    Raises:
        OptionError: Another function, no such arrays, or different dimensions.
    """
    queries, documents = _sides(a, b, function)
    scores = np.empty((len(queries), len(documents)), dtype=np.float32)
    for top, bottom in _blocks(queries):
        for left, right in _blocks(documents):
            scores[top:bottom, left:right] = _block(queries[top:bottom], documents[left:right])
    return _mean(scores, queries) if function == "meanmaxsim" else scores


def maxsim_pairwise(a: Any, b: Any, function: str = "maxsim") -> Float32:
    """Each query of `a` against the same document of `b`: float32 [len(a)].

    Raises:
        OptionError: As `maxsim`; or numbers of queries and documents that differ.
    """
    queries, documents = _sides(a, b, function)
    if len(queries) != len(documents):
        raise OptionError(
            f"similarity_pairwise compares one by one: {len(queries)} queries and "
            f"{len(documents)} documents do not pair up."
        )
    scores = [_one(query, document) for query, document in zip(queries, documents, strict=True)]
    result = np.array(scores, dtype=np.float32)
    return _mean(result[:, None], queries)[:, 0] if function == "meanmaxsim" else result


def as_token_vectors(value: Any, name: str) -> list[Float32]:
    """Arrays [tokens, dimension] float32, of which every one has the same dimension.

    Args:
        value: What `maxsim` takes.
        name: What errors call it.

    Raises:
        OptionError: Something else.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.ndim not in (2, 3):
            raise OptionError(
                f"{name} must have shape [tokens, dimension] or [n, tokens, dimension], not "
                f"{list(value.shape)}."
            )
        padded = value[None] if value.ndim == 2 else value
        # A vector of zeros is no direction: padding, where there are several.
        value = list(padded) if value.ndim == 2 else [one[one.any(axis=1)] for one in padded]
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        raise OptionError(
            f"{name} must be a list of arrays [tokens, dimension], not {type(value).__name__}."
        )
    vectors = []
    for number, one in enumerate(value):
        if np.ndim(one) == 1 and len(one):
            raise OptionError(
                f"{name}[{number}] must have shape [tokens, dimension], not {[len(one)]}: pass a "
                "list of arrays, one for each text."
            )
        # An empty list has no dimension yet.
        rows = np.empty((0, 0)) if isinstance(one, list | tuple) and not one else one
        vectors.append(as_embeddings(rows, f"{name}[{number}]"))
    if len(dimensions := {one.shape[1] for one in vectors if len(one)}) > 1:
        found = ", ".join(map(str, sorted(dimensions)))
        raise OptionError(f"Vectors of {name} have different dimensions: {found}.")
    dimension = dimensions.pop() if dimensions else 0
    return [one if len(one) else np.empty((0, dimension), np.float32) for one in vectors]


def _sides(a: Any, b: Any, function: str) -> tuple[list[Float32], list[Float32]]:
    if function not in MAXSIM_FUNCTIONS:
        listed = " or ".join(map(repr, MAXSIM_FUNCTIONS))
        raise OptionError(f"Vectors of tokens are compared with {listed}, not {function!r}.")
    queries, documents = as_token_vectors(a, "a"), as_token_vectors(b, "b")
    first, second = _dimension(queries), _dimension(documents)
    if first and second and first != second:
        raise OptionError(f"Vectors of {first} and of {second} dimensions cannot be compared.")
    # Sides without any vector take the other's dimension.
    width = first or second
    return _wide(queries, width), _wide(documents, width)


def _dimension(vectors: Iterable[Float32]) -> int:
    return next((one.shape[1] for one in vectors if len(one)), 0)


def _wide(vectors: list[Float32], width: int) -> list[Float32]:
    return [one if len(one) else np.empty((0, width), np.float32) for one in vectors]


def _blocks(texts: list[Float32]) -> list[tuple[int, int]]:
    """Ranges of texts with at most so many vectors together; a longer text is alone."""
    blocks, start, rows = [], 0, 0
    for number, one in enumerate(texts):
        if number > start and (rows + len(one) > _ROWS or number - start == _ROWS):
            blocks.append((start, number))
            start, rows = number, 0
        rows += len(one)
    return [*blocks, (start, len(texts))] if texts else []


def _block(queries: list[Float32], documents: list[Float32]) -> Float32:
    """Scores of few queries and few documents."""
    scores = np.full((len(queries), len(documents)), EMPTY_DOCUMENT, dtype=np.float32)
    starts = np.cumsum([0, *map(len, documents)])
    filled = np.flatnonzero(np.diff(starts))
    if not len(filled):
        return scores
    rows, columns = np.concatenate(queries), np.concatenate(documents).T
    best = np.empty((len(rows), len(filled)), dtype=np.float32)
    size = max(1, _PRODUCTS // columns.shape[1])
    for first in range(0, len(rows), size):
        products = rows[first : first + size] @ columns
        np.maximum.reduceat(products, starts[filled], axis=1, out=best[first : first + size])
    scores[:, filled] = _sum_rows(best, np.cumsum([0, *map(len, queries)]))
    return scores


def _sum_rows(best: Float32, bounds: NDArray[np.int64]) -> Float32:
    """Sums of the rows of `best` from each of the bounds to the next."""
    sums = np.zeros((len(bounds) - 1, best.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(np.diff(bounds))
    if len(filled):
        sums[filled] = np.add.reduceat(best, bounds[filled], axis=0)
    return sums


def _one(query: Float32, document: Float32) -> np.float32:
    if not len(document):
        return EMPTY_DOCUMENT
    total = np.float32(0)
    size = max(1, _PRODUCTS // len(document))
    for first in range(0, len(query), size):
        products = query[first : first + size] @ document.T
        total += products.max(axis=1).sum(dtype=np.float32)
    return total


def _mean(scores: Float32, queries: list[Float32]) -> Float32:
    counts = np.array([max(1, len(query)) for query in queries], dtype=np.float32)
    return np.divide(scores, counts[:, None], dtype=np.float32)
