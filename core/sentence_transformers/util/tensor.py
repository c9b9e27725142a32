"""Small changes to embeddings and batches, arrays or tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.architecture.modules import unit_length
from core.errors import OptionError
from core.options import check_positive
from core.sentence_transformers.tensors import as_array, as_tensor, check_rows, is_tensor


def normalize_embeddings(embeddings: Any) -> Any:
    """Embeddings [..., dimension] scaled to length 1, as a tensor on the same device."""
    check_rows("embeddings", embeddings)
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
