"""Embeddings as a column of Parquet: fixed-size lists, which every reader knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EMBEDDING = "embedding"


def embedding_type(embeddings: NDArray[Any]) -> Any:
    """The Arrow type of a column of such embeddings: a fixed-size list of their dtype.

    Args:
        embeddings: [rows, dimension], of any precision of `encode`.
    """
    import pyarrow as pa

    return pa.list_(pa.from_numpy_dtype(embeddings.dtype), embeddings.shape[1])


def embedding_column(embeddings: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> Any:
    """[rows, dimension] as one Arrow column, without a copy; null where `missing` says so."""
    import pyarrow as pa

    rows, dimension = embeddings.shape
    values = pa.array(np.ascontiguousarray(embeddings).reshape(rows * dimension))
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(values, dimension, mask=mask)
