"""A second copy of the linear layers' weights on a CPU, in oneDNN's blocked layout.

With a few rows a product is as fast as its weights are read, and PyTorch's float32 product reads
them at a half to a quarter of the speed of oneDNN's on blocked weights: a query of 15 tokens on
all-MiniLM-L6-v2 is the case in point. On AMD processors with AVX-512 they are twice as fast for any
number of rows, since the library behind PyTorch's product, MKL, does without AVX-512 there.
docs/torch.md has the measurements.
"""

from __future__ import annotations

from typing import Any

import torch

from core.toolkit import processor_flags, processor_vendor
from torch_backend.kernels.row_counts import fill_rows

#: Rows, tokens of all texts together, up to which the blocked weights are used on any processor.
FEW_ROWS = 64
#: Larger models do without: their weights must not be held twice.
MOST_BYTES = 512 * 2**20


def use_blocked_weights(module: torch.nn.Module) -> None:
    """Let the linear layers of a float32 module use blocked weights where that is faster.

    Structure, parameters and results (to rounding) stay as they are; so does what tracing sees.
    The copies are made when the first batch needs them.
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
    if sum(layer.weight.nbytes for layer in layers) > MOST_BYTES:
        return
    most_rows = None if _product_is_slow() else FEW_ROWS
    for layer in layers:
        layer.forward = BlockedForward(layer, most_rows)  # type: ignore[method-assign, assignment]


def _product_is_slow() -> bool:
    """Whether PyTorch's float32 product reaches half of what the processor can."""
    on_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return on_mkl and processor_vendor() == "AuthenticAMD" and "avx512f" in processor_flags()


class BlockedForward:
    """The forward of one linear layer, on blocked weights up to `most_rows` rows; None for any."""

    def __init__(self, layer: torch.nn.Linear, most_rows: int | None) -> None:
        self._layer = layer
        self._most_rows = most_rows
        self._blocked: tuple[Any, torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self._layer
        rows = x.numel() // layer.in_features
        fits = rows > 0 and (self._most_rows is None or rows <= self._most_rows)
        tracing: bool = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        if (
            not fits
            or x.dtype is not torch.float32
            or tracing
            or not torch.is_inference_mode_enabled()
        ):
            return torch.nn.functional.linear(x, layer.weight, layer.bias)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            fill_rows(x.reshape(rows, layer.in_features)),
            self._weight(),
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of the layer make their own.
        return type(self), (self._layer, self._most_rows)
