"""How alike sparse embeddings are, computed on the values that are not zero alone.

Definitions are those of `core.engine.similarity`: larger means more alike, so distances are
negated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engine.sparse import SparseEmbeddings
from core.engine.sparse_arrays import Float32
from core.errors import OptionError

#: Floats of the products held at a time, which stay in a processor's cache.
_BLOCK = 2**18

#: Floats of one side spread out over the dimensions it uses.
_SPREAD = 2**22

Combine = Callable[[Any, Any], Any]


def sparse_similarity(
    a: SparseEmbeddings, b: SparseEmbeddings, function: str = "dot"
) -> NDArray[np.float32]:
    """Every row of `a` against every row of `b`: float32 [len(a), len(b)].

    Args:
        function: `dot`, `cosine`, `euclidean` or `manhattan`.

    Raises:
        OptionError: Another function, or embeddings of different dimensions.
    """
    _check(a, b, function)
    if function == "cosine":
        return _shared(unit_length_rows(a), unit_length_rows(b), np.multiply)
    if function == "dot":
        return _shared(a, b, np.multiply)
    if function == "euclidean":
        squares = _row_sums(a, np.square)[:, None] + _row_sums(b, np.square)[None]
        return _negated_root(squares - 2 * _shared(a, b, np.multiply))
    sums = _row_sums(a, np.abs)[:, None] + _row_sums(b, np.abs)[None]
    return -(sums + _shared(a, b, _manhattan_excess))


def sparse_similarity_pairwise(
    a: SparseEmbeddings, b: SparseEmbeddings, function: str = "dot"
) -> NDArray[np.float32]:
    """Each row of `a` against the same row of `b`: float32 [len(a)].

    Raises:
        OptionError: Another function, or rows or dimensions that do not fit.
    """
    _check(a, b, function)
    if len(a) != len(b):
        raise OptionError(
            f"similarity_pairwise compares row by row: {len(a)} and {len(b)} rows do not pair up."
        )
    if function == "cosine":
        a, b, function = unit_length_rows(a), unit_length_rows(b), "dot"
    rows, _, first, second = _in_both(a, b)
    if function == "dot":
        return _sum_by_row(first * second, rows, len(a))
    if function == "euclidean":
        squares = _row_sums(a, np.square) + _row_sums(b, np.square)
        products = _sum_by_row(first * second, rows, len(a))
        return _negated_root(squares - 2 * products)
    excess = _sum_by_row(_manhattan_excess(first, second), rows, len(a))
    return -(_row_sums(a, np.abs) + _row_sums(b, np.abs) + excess)


def intersection(a: SparseEmbeddings, b: SparseEmbeddings) -> SparseEmbeddings:
    """The products of what rows share, where they are positive: [len(b), dimension].

    Args:
        a: One row, compared with every row of `b`, or as many rows as `b`.
    """
    _check(a, b, "dot")
    if len(a) not in (1, len(b)):
        raise OptionError(f"a must have 1 row or {len(b)}, as b has, not {len(a)}.")
    if len(a) != len(b):
        a = a[np.zeros(len(b), dtype=np.int64)]
    rows, indices, first, second = _in_both(a, b)
    values = first * second
    kept = values > 0
    lengths = np.bincount(rows[kept], minlength=len(b))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return SparseEmbeddings(indptr, indices[kept], values[kept], b.shape)


def _check(a: Any, b: Any, function: str) -> None:
    for name, given in (("a", a), ("b", b)):
        if not isinstance(given, SparseEmbeddings):
            raise OptionError(f"{name} must be SparseEmbeddings, not {type(given).__name__}.")
    if a.shape[1] != b.shape[1]:
        raise OptionError(
            f"Embeddings of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared."
        )
    if function not in ("dot", "cosine", "euclidean", "manhattan"):
        raise OptionError(
            f"A similarity function is 'cosine', 'dot', 'euclidean' or 'manhattan', not "
            f"{function!r}."
        )


def _negated_root(squares: Float32) -> Float32:
    # Rounding may leave a little less than nothing.
    return -np.sqrt(np.maximum(squares, np.float32(0)))


def _manhattan_excess(x: Any, y: Any) -> Any:
    """|x - y| less |x| and |y|: 0 where one of them is."""
    return np.abs(x - y) - np.abs(x) - np.abs(y)


def _rows(embeddings: SparseEmbeddings) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(embeddings)), np.diff(embeddings.indptr))


def _sum_by_row(values: Float32, rows: NDArray[np.int64], count: int) -> Float32:
    return np.bincount(rows, weights=values, minlength=count).astype(np.float32)


def _row_sums(embeddings: SparseEmbeddings, of: Callable[[Float32], Float32]) -> Float32:
    return _sum_by_row(of(embeddings.values), _rows(embeddings), len(embeddings))


def unit_length_rows(embeddings: SparseEmbeddings) -> SparseEmbeddings:
    """Every row scaled to length 1; lengths under 1e-12 divide by 1e-12, as in `unit_length`."""
    lengths = np.maximum(np.sqrt(_row_sums(embeddings, np.square)), np.float32(1e-12))
    values = np.divide(embeddings.values, lengths[_rows(embeddings)], dtype=np.float32)
    return SparseEmbeddings._trusted(
        embeddings.indptr, embeddings.indices, values, embeddings.shape
    )


def _in_both(
    a: SparseEmbeddings, b: SparseEmbeddings
) -> tuple[NDArray[np.int64], NDArray[np.int32], Float32, Float32]:
    """Rows, dimensions and both values of what equal rows share."""
    # A place of the whole array, which ascends; one number for row and dimension.
    places = _rows(a) * a.shape[1] + a.indices
    wanted = _rows(b) * b.shape[1] + b.indices
    found = np.searchsorted(places, wanted)
    shared = np.zeros(len(wanted), dtype=bool)
    inside = found < len(places)
    shared[inside] = places[found[inside]] == wanted[inside]
    return _rows(b)[shared], b.indices[shared], a.values[found[shared]], b.values[shared]


def _shared(a: SparseEmbeddings, b: SparseEmbeddings, combine: Combine) -> Float32:
    """The sum of `combine(x, y)` over all dimensions, for every row of `a` and of `b`.

    `combine` is 0 where one of the two is. So of `b` only what stands in dimensions that a row of
    `a` uses is looked at; rows of `a` are spread out over those dimensions, some at a time.
    """
    result = np.zeros((len(a), len(b)), dtype=np.float32)
    for start, stop in _row_blocks(a):
        part = a[start:stop]
        used, places = np.unique(part.indices, return_inverse=True)
        if not len(used):
            continue
        spread = np.zeros((len(used), len(part)), dtype=np.float32)
        spread[places, _rows(part)] = part.values
        column = np.full(b.shape[1], -1, dtype=np.int64)
        column[used] = np.arange(len(used))
        where = column[b.indices]
        kept = np.flatnonzero(where >= 0)
        rows, where, values = _rows(b)[kept], where[kept], b.values[kept]
        result[start:stop] = _sum_products(spread, rows, where, values, len(b), combine).T
    return result


def _row_blocks(embeddings: SparseEmbeddings) -> list[tuple[int, int]]:
    """Ranges of rows whose spread-out form stays within bounds."""
    blocks, start = [], 0
    while start < len(embeddings):
        # Never more dimensions than values, nor than there are.
        stop = min(start + 256, len(embeddings))
        while stop > start + 1:
            values = int(embeddings.indptr[stop] - embeddings.indptr[start])
            if min(values, embeddings.shape[1]) * (stop - start) <= _SPREAD:
                break
            stop = start + (stop - start) // 2
        blocks.append((start, stop))
        start = stop
    return blocks


def _sum_products(
    spread: Float32,
    rows: NDArray[np.int64],
    where: NDArray[np.int64],
    values: Float32,
    count: int,
    combine: Combine,
) -> Float32:
    """[count, columns of `spread`]: `combine` of the values and their rows of `spread`, summed."""
    result = np.zeros((count, spread.shape[1]), dtype=np.float32)
    size = max(1, _BLOCK // spread.shape[1])
    for start in range(0, len(values), size):
        stop = min(start + size, len(values))
        products = combine(spread[where[start:stop]], values[start:stop, None])
        first = np.flatnonzero(np.diff(rows[start:stop], prepend=-1))
        # A row that two blocks share is added to twice.
        result[rows[start:stop][first]] += np.add.reduceat(products, first, axis=0)
    return result
