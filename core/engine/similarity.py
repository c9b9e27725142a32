"""How alike two sets of embeddings are.

Definitions follow sentence-transformers: larger always means more alike, so distances are
negated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.modules import unit_length
from core.engine.numbers import as_numbers
from core.errors import OptionError


def as_embeddings(value: Any, name: str) -> NDArray[np.float32]:
    """Embeddings as float32 [n, dimension]; one vector becomes one row. Tensors are copied over.

    Raises:
        OptionError: Not numeric, or of more than two dimensions.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    elif isinstance(value, list | tuple) and value and hasattr(value[0], "detach"):
        value = [row.detach().cpu().float().numpy() for row in value]
    array = as_numbers(name, value)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise OptionError(f"{name} must have shape [n, dimension], not {list(array.shape)}.")
    return array


def _check(a: NDArray[np.float32], b: NDArray[np.float32], *, pairwise: bool) -> None:
    if a.shape[1] != b.shape[1]:
        raise OptionError(
            f"Embeddings of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared."
        )
    if pairwise and len(a) != len(b):
        raise OptionError(
            f"similarity_pairwise compares row by row: {len(a)} and {len(b)} rows do not pair up."
        )


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(unit_length(np, a) @ unit_length(np, b).T)


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(a @ b.T)


def _row_by_row(
    norm: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]:
    # One row of `a` at a time: no [n, m, dimension] array.
    def compare(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        result = np.empty((len(a), len(b)), dtype=np.float32)
        for i, row in enumerate(a):
            result[i] = -norm(row - b)
        return result

    return compare


def _euclidean_norm(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt((difference * difference).sum(axis=-1)))


def _manhattan_norm(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.abs(difference).sum(axis=-1))


_MATRIX: Mapping[str, Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _row_by_row(_euclidean_norm),
    "manhattan": _row_by_row(_manhattan_norm),
}

_PAIRWISE: Mapping[
    str, Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
] = {
    "cosine": lambda a, b: (unit_length(np, a) * unit_length(np, b)).sum(axis=-1),
    "dot": lambda a, b: (a * b).sum(axis=-1),
    "euclidean": lambda a, b: -_euclidean_norm(a - b),
    "manhattan": lambda a, b: -_manhattan_norm(a - b),
}


def similarity(a: Any, b: Any, function: str = "cosine") -> NDArray[np.float32]:
    """Every row of `a` against every row of `b`: float32 [len(a), len(b)]."""
    first, second = as_embeddings(a, "a"), as_embeddings(b, "b")
    _check(first, second, pairwise=False)
    return _MATRIX[function](first, second)


def similarity_pairwise(a: Any, b: Any, function: str = "cosine") -> NDArray[np.float32]:
    """Each row of `a` against the same row of `b`: float32 [len(a)]."""
    first, second = as_embeddings(a, "a"), as_embeddings(b, "b")
    _check(first, second, pairwise=True)
    return _PAIRWISE[function](first, second)


def row_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of each row with the same row of the other, float64 [n], within -1 and 1.

    Two rows of zeros agree: a text without tokens.
    """
    first = unit_length(np, a.astype(np.float64))
    second = unit_length(np, b.astype(np.float64))
    cosines: NDArray[np.float64] = np.clip((first * second).sum(axis=1), -1.0, 1.0)
    cosines[(a == 0).all(axis=1) & (b == 0).all(axis=1)] = 1.0
    return cosines
