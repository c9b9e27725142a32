"""What models return as columns of Apache Arrow: fixed-size lists, which every reader knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engine.sparse import SparseEmbeddings


def arrow_column(result: Any, missing: NDArray[np.bool_] | None = None) -> Any:
    """A result of `encode` as one `pyarrow.Array`, without a copy of dense values.

    Args:
        result: [rows, dimension] gives fixed-size lists of its dtype, [rows] (scores) plain
            numbers, `SparseEmbeddings` lists of `{index: int32, value: float32}`, and a list of
            [tokens, dimension] lists of fixed-size lists.
        missing: bool [rows of the column], true where the column has a null; `result` then has the
            others only.
    """
    import pyarrow as pa

    if isinstance(result, SparseEmbeddings):
        entries = pa.StructArray.from_arrays(
            [pa.array(result.indices.astype(np.int32)), pa.array(result.values)],
            ["index", "value"],
        )
        column = pa.ListArray.from_arrays(pa.array(result.indptr.astype(np.int32)), entries)
    elif isinstance(result, np.ndarray) and result.ndim == 1:
        column = pa.array(result)
    elif isinstance(result, np.ndarray):
        column = _fixed_lists(result)
    else:
        starts = np.cumsum([0, *map(len, result)], dtype=np.int32)
        column = pa.ListArray.from_arrays(pa.array(starts), _fixed_lists(np.concatenate(result)))
    if missing is None:
        return column
    places = np.cumsum(~missing) - 1
    return column.take(pa.array(places, mask=missing))


def _fixed_lists(rows: NDArray[Any]) -> Any:
    import pyarrow as pa

    count, width = rows.shape
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(rows).reshape(count * width)), width
    )
