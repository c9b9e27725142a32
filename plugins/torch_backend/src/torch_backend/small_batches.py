"""A second copy of the linear layers' weights on a CPU, for batches of a few tokens.

With a few rows a product is as fast as its weights are read, and PyTorch's float32 product reads
them at a half to a quarter of the speed of oneDNN's on weights in its own blocked layout: a query
of 15 tokens on all-MiniLM-L6-v2 is the case in point (docs/torch.md). oneDNN makes a kernel for
every number of rows, about a megabyte each, so rows are filled up to a few sizes and larger batches
stay with PyTorch's product.
"""

from __future__ import annotations

from typing import Any

import torch

#: Rows, tokens of all texts together, up to which the blocked weights are used.
MOST_ROWS = 64
_STEP = 8
#: Larger models do without: their weights are not to be held twice.
MOST_BYTES = 512 * 2**20


def speed_up_small_batches(module: torch.nn.Module) -> None:
    """Let the linear layers of a float32 module use blocked weights where that is faster.

    Structure, parameters and results (to rounding) stay as they are; so does what tracing sees.
    The copies are made when the first small batch runs.
    """
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    layers = [
        layer
        for layer in module.modules()
        if type(layer) is torch.nn.Linear and layer.weight.dtype is torch.float32
    ]
    if sum(layer.weight.nbytes for layer in layers) > MOST_BYTES:
        return
    for layer in layers:
        layer.forward = BlockedForward(layer)  # type: ignore[method-assign, assignment]


class BlockedForward:
    """The forward of one linear layer."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self._layer = layer
        self._blocked: tuple[Any, torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self._layer
        rows = x.numel() // layer.in_features
        small = 0 < rows <= MOST_ROWS and x.dtype is torch.float32
        tracing: bool = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        if not small or tracing or not torch.is_inference_mode_enabled():
            return torch.nn.functional.linear(x, layer.weight, layer.bias)
        flat = x.reshape(rows, layer.in_features)
        if rows % _STEP:
            flat = torch.nn.functional.pad(flat, (0, 0, 0, _STEP - rows % _STEP))
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            flat, self._weight(), layer.bias, "none", [], ""
        )
        return result[:rows].reshape(*x.shape[:-1], layer.out_features)

    def _weight(self) -> torch.Tensor:
        """The weight in oneDNN's layout, made again when it was changed or replaced."""
        weight = self._layer.weight
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), version)
        blocked = self._blocked
        if blocked is None or blocked[0] != state:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), MOST_ROWS)
            blocked = self._blocked = (state, packed)
        return blocked[1]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of the layer make their own.
        return type(self), (self._layer,)
