"""oneDNN's product for linear layers on a CPU, with a copy of their weights in its blocked layout.

With a few rows a product is as fast as its weights are read, and PyTorch's float32 product reads
them at a half to a quarter of the speed of oneDNN's on blocked weights: a query of 15 tokens on
all-MiniLM-L6-v2 is the case in point. On AMD processors with AVX-512 oneDNN is twice as fast for
any number of rows, since the library behind PyTorch's product, MKL, does without AVX-512 there;
with many rows it can do without the copy, at 0.93 to 0.95 of the speed. docs/torch.md has the
measurements.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from core.toolkit import processor_flags, processor_vendor
from torch_backend.kernels.row_counts import fill_rows

#: Rows, tokens of all texts together, up to which blocked weights pay on any processor.
FEW_ROWS = 64
#: Larger models do without copies: their weights must not be held twice.
MOST_BYTES = 512 * 2**20


def use_blocked_weights(module: torch.nn.Module, copied_rows: float = math.inf) -> None:
    """Let the linear layers of a float32 module use oneDNN where that is faster.

    Structure, parameters and results (to rounding) stay as they are; so does what tracing sees.
    The blocked copies are made when the first batch needs them.

    Args:
        copied_rows: Most rows that a copy is made for; with more, weights are taken as they are.
    """
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    layers = [
        layer
        for layer in module.modules()
        if type(layer) is torch.nn.Linear
        and layer.weight.dtype is torch.float32
        and "forward" not in vars(layer)  # replaced for a head of its own
    ]
    many = _product_is_slow()
    if sum(layer.weight.nbytes for layer in layers) > MOST_BYTES:
        copied_rows = 0
    elif not many:
        copied_rows = min(copied_rows, FEW_ROWS)
    if not (copied_rows or many):
        return
    for layer in layers:
        forward = BlockedForward(layer, copied_rows, many=many)
        layer.forward = forward  # type: ignore[method-assign, assignment]


def _product_is_slow() -> bool:
    """Whether PyTorch's float32 product reaches half of what the processor can."""
    on_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return on_mkl and processor_vendor() == "AuthenticAMD" and "avx512f" in processor_flags()


class BlockedForward:
    """The forward of one linear layer in oneDNN.

    Args:
        copied_rows: Most rows that take a blocked copy of the weights.
        many: Whether oneDNN computes more rows than that, too, with the weights as they are.
    """

    def __init__(self, layer: torch.nn.Linear, copied_rows: float, *, many: bool) -> None:
        self._layer = layer
        self._copied_rows = copied_rows
        self._many = many
        self._blocked: tuple[Any, torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self._layer
        rows = x.numel() // layer.in_features
        blocked = rows <= self._copied_rows
        tracing: bool = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        if (
            rows == 0
            or not (blocked or self._many)
            or x.dtype is not torch.float32
            or tracing
            or not torch.is_inference_mode_enabled()
        ):
            return torch.nn.functional.linear(x, layer.weight, layer.bias)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            fill_rows(x.reshape(rows, layer.in_features)),
            self._weight() if blocked else layer.weight,
            layer.bias,
            "none",
            [],
            "",
        )
        return result[:rows].reshape(*x.shape[:-1], layer.out_features)

    def _weight(self) -> torch.Tensor:
        """The weight in oneDNN's layout, made again when it was changed or replaced."""
        weight = self._layer.weight
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), version)
        blocked = self._blocked
        if blocked is None or blocked[0] != state:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), FEW_ROWS)
            blocked = self._blocked = (state, packed)
        return blocked[1]

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of the layer make their own.
        return {**vars(self), "_blocked": None}
