"""What the inputs of linear layers range over, from calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from torch_backend.session import TorchRuntime


def largest_inputs(
    runtime: TorchRuntime, layers: Mapping[str, torch.nn.Linear], batches: Sequence[TokenBatch]
) -> dict[str, NDArray[np.float32]]:
    """Of each input of the layers the largest absolute value over the batches, padding left out.

    Returns:
        By name, float32 [in_features] each; a layer that was never called is missing.
    """
    largest: dict[str, torch.Tensor] = {}
    real = torch.ones(0, dtype=torch.bool)

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def look(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
            rows = given[0].detach().float().cpu()
            rows = rows.reshape(-1, rows.shape[-1])
            if len(rows) == len(real):
                rows = rows[real]
            found = rows.abs().amax(dim=0)
            largest[name] = torch.maximum(largest[name], found) if name in largest else found

        return look

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            real = torch.from_numpy(batch.attention_mask.reshape(-1) != 0)
            if runtime.architecture.head is None:
                runtime.token_embeddings(batch)
            else:
                runtime.scores(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: values.numpy() for name, values in largest.items()}
