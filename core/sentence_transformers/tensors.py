"""Between arrays and tensors, where torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engine.sparse import SparseEmbeddings
from core.errors import OptionError


def is_tensor(value: Any) -> bool:
    """Whether a value is a `torch.Tensor`, without importing torch."""
    return hasattr(value, "detach")


def is_sparse(value: Any) -> bool:
    """Whether it holds sparse rows: a tensor that is not strided, scipy's, core's own, or a list
    of these."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and is_sparse(value[0])
    if is_tensor(value):
        return str(value.layout) != "torch.strided"
    return isinstance(value, SparseEmbeddings) or hasattr(value, "tocsr")


def as_sparse(value: Any) -> SparseEmbeddings:
    """The rows of what `is_sparse`, or of a tensor or an array; one vector is one row.

    Raises:
        OptionError: Something else.
    """
    if isinstance(value, SparseEmbeddings):
        return value
    if isinstance(value, list | tuple) and is_sparse(value):
        return SparseEmbeddings.concatenate(as_sparse(row) for row in value)
    if is_tensor(value):
        return SparseEmbeddings.from_torch(value)
    if is_sparse(value):
        return SparseEmbeddings.from_scipy(value)
    check_rows("embeddings", value)
    return SparseEmbeddings.from_dense(as_array(value))


def as_tensor(value: Any, *, device: Any = None, dtype: str | None = None) -> Any:
    """The `torch.Tensor` of an array; the array itself where torch is not installed.

    The reference returns tensors in places where its callers never asked for one. An environment
    without torch has no code that needs them.

    Args:
        dtype: Name of a torch dtype; None keeps the array's.
    """
    try:
        import torch
    except ImportError:
        return value
    tensor = value if is_tensor(value) else torch.from_numpy(np.asarray(value, order="C"))
    return tensor.to(device=device, dtype=None if dtype is None else getattr(torch, dtype))


def check_rows(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is an array, a tensor or a list with one dimension or more.

    Sparse rows are fine too.
    """
    if is_sparse(value):
        return
    rows = as_array(value) if isinstance(value, list | tuple) else value
    numbers = is_tensor(rows) or getattr(getattr(rows, "dtype", None), "kind", "") in "biuf"
    if not numbers or getattr(rows, "ndim", 0) < 1:
        raise OptionError(f"{name} must be embeddings (an array or a tensor), not {value!r:.60}.")


def as_array(value: Any) -> NDArray[Any]:
    """The array of a tensor, an array, or a list of either."""
    if is_tensor(value):
        value = value.detach().cpu().float().numpy()
    elif isinstance(value, list | tuple) and value and is_tensor(value[0]):
        value = [row.detach().cpu().float().numpy() for row in value]
    return np.asarray(value)
