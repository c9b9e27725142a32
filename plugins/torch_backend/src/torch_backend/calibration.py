"""What the inputs of linear layers are, from calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from core.toolkit import Moments, moment_parts
from torch_backend.session import TorchRuntime


def observe(
    runtime: TorchRuntime, layers: Mapping[str, torch.nn.Linear], batches: Sequence[TokenBatch]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Moments]]:
    """What layers are given in these batches, padding left out.

    Returns:
        By the layers' names, of those that were called: of each input the largest absolute value,
        float32 [in_features], and the inputs' moments.
    """
    largest: dict[str, torch.Tensor] = {}
    moments: dict[str, Moments] = {}
    real = torch.ones(0, dtype=torch.bool)

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def look(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
            rows = given[0].detach().float().cpu()
            rows = rows.reshape(-1, rows.shape[-1])
            if len(rows) == len(real):
                rows = rows[real]
            found = rows.abs().amax(dim=0)
            largest[name] = torch.maximum(largest[name], found) if name in largest else found
            channels = rows.shape[-1]
            parts = moment_parts(channels)
            split = rows.reshape(-1, parts, channels // parts).transpose(0, 1)
            own = moments.setdefault(name, Moments(channels))
            own.add((split.transpose(1, 2) @ split).numpy(), len(rows))

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
    return {name: values.numpy() for name, values in largest.items()}, moments
