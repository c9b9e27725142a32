"""Small changes to embeddings and batches, arrays or tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.architecture.modules import unit_length
from core.engine.sparse import SparseEmbeddings
from core.engine.sparse_similarity import unit_length_rows
from core.errors import OptionError
from core.options import check_positive
from core.sentence_transformers.tensors import (
    as_array,
    as_sparse,
    as_tensor,
    check_rows,
    is_sparse,
    is_tensor,
)


def normalize_embeddings(embeddings: Any) -> Any:
    """Embeddings [..., dimension] scaled to length 1, as a tensor on the same device.

    Sparse rows stay sparse.
    """
    check_rows("embeddings", embeddings)
    if is_sparse(embeddings):
        rows = unit_length_rows(as_sparse(embeddings))
        tensor = rows.to_torch(embeddings.device if is_tensor(embeddings) else None)
        return tensor[0] if getattr(embeddings, "ndim", 2) == 1 else tensor
    device, dtype = None, None
    if is_tensor(embeddings):
        device, dtype = embeddings.device, str(embeddings.dtype).removeprefix("torch.")
    return as_tensor(unit_length(np, as_array(embeddings)), device=device, dtype=dtype)


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """The leading `truncate_dim` dimensions of embeddings [..., dimension]; None for all."""
    check_rows("embeddings", embeddings)
    rows = as_array(embeddings) if isinstance(embeddings, list | tuple) else embeddings
    return rows[..., : check_positive("truncate_dim", truncate_dim)]


def batch_to_device(batch: dict[str, Any], target_device: Any) -> dict[str, Any]:
    """Move the tensors of a batch, as `model.tokenize` returns it, to a device."""
    if not isinstance(batch, Mapping):
        raise OptionError(f"batch must be a mapping of tensors, not {batch!r}.")
    for name, value in batch.items():
        if is_tensor(value):
            batch[name] = value.to(target_device)
    return batch


def select_max_active_dims(embeddings: Any, max_active_dims: int | None) -> Any:
    """The `max_active_dims` largest values of each row by absolute value, and zeros.

    Args:
        embeddings: [n, dimension] or [dimension], an array or a tensor.
        max_active_dims: None keeps every value.

    Returns:
        A tensor of the same shape on the same device; for None the embeddings.
    """
    count = check_positive("max_active_dims", max_active_dims)
    check_rows("embeddings", embeddings)
    if count is None:
        return embeddings
    rows = as_sparse(embeddings).top(count).to_dense()
    device = embeddings.device if is_tensor(embeddings) else None
    return as_tensor(rows[0] if embeddings.ndim == 1 else rows, device=device)


def to_scipy_coo(embeddings: Any) -> Any:
    """A `scipy.sparse` array of coordinates of a sparse tensor [n, dimension]."""
    if not is_sparse(embeddings):
        raise OptionError(f"embeddings must be sparse, not {type(embeddings).__name__}.")
    rows: SparseEmbeddings = as_sparse(embeddings)
    return rows.to_scipy().tocoo()
