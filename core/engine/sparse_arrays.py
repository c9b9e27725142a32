"""The arrays of sparse embeddings, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import OptionError

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

_LARGEST_DIMENSION = 2**31 - 1


def check_shape(value: Any) -> tuple[int, int]:
    try:
        rows, dimension = (int(size) for size in value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"shape must be (rows, dimension), not {value!r:.60}.") from error
    if rows < 0 or not 0 <= dimension <= _LARGEST_DIMENSION:
        raise OptionError(
            f"shape must be (rows, dimension), both 0 or more and the dimension at most "
            f"{_LARGEST_DIMENSION}, not {(rows, dimension)}."
        )
    return rows, dimension


def as_vector(name: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A one-dimensional array of this dtype; integers keep their value or are refused."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} must be an array of numbers, not {value!r:.60}.") from error
    if array.ndim != 1:
        raise OptionError(f"{name} must have one dimension, not the shape {list(array.shape)}.")
    numbers = "iu" if dtype.kind == "i" else "iuf"
    if array.size and array.dtype.kind not in numbers:
        kind = "integers" if dtype.kind == "i" else "numbers"
        raise OptionError(f"{name} must hold {kind}, not {array.dtype}.")
    cast = array.astype(dtype, copy=False)
    if dtype.kind == "i" and array.size and not np.array_equal(cast, array):
        raise OptionError(
            f"{name} must hold numbers that fit into {dtype}; {array.max()} does not."
        )
    return np.ascontiguousarray(cast)


def check_rows(indptr: Int64, indices: Int32, values: Float32, rows: int, dimension: int) -> None:
    if len(indptr) != rows + 1:
        raise OptionError(
            f"indptr must have {rows + 1} numbers for {rows} rows, not {len(indptr)}."
        )
    if len(indices) != len(values):
        raise OptionError(f"There are {len(indices)} indices and {len(values)} values.")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise OptionError(
            f"indptr must ascend from 0 to {len(indices)}, the number of indices; it goes from "
            f"{indptr[0]} to {indptr[-1]}."
        )
    outside = (indices < 0) | (indices >= dimension)
    if outside.any():
        place = int(np.argmax(outside))
        raise OptionError(
            f"Row {_row_of(indptr, place)} has the dimension {indices[place]}, outside of 0 to "
            f"{dimension - 1}."
        )
    falls = np.diff(indices) <= 0
    starts = indptr[1:-1]
    falls[starts[(starts > 0) & (starts < len(indices))] - 1] = False  # between two rows
    if falls.any():
        place = int(np.argmax(falls)) + 1
        raise OptionError(
            f"The dimensions of row {_row_of(indptr, place)} must ascend and none come twice: "
            f"{indices[place]} follows {indices[place - 1]}."
        )
    if (zero := values == 0).any():
        place = int(np.argmax(zero))
        raise OptionError(
            f"Row {_row_of(indptr, place)} holds a zero for dimension {indices[place]}; zeros are "
            "left out. SparseEmbeddings.from_rows and from_dense leave them out for you."
        )


def _row_of(indptr: Int64, place: int) -> int:
    return int(np.searchsorted(indptr, place, side="right")) - 1
