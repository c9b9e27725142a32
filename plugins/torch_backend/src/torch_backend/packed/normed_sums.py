"""`LayerNorm(x + residual)` in one pass over a GPU's memory, in Triton.

PyTorch takes two: the sum is written, and read again. Both are computed in float32 here, and
rounded once.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

#: `triton.language`, from the first use on: importing it takes time, and only GPUs need it.
tl: Any = None

#: Entries of a block: rows that are short share one.
_BLOCK = 4_096


# What an annotation other than constexpr would mean to Triton, depends on its version.
def _normed_sum(  # type: ignore[no-untyped-def]
    x,
    residual,
    weight,
    bias,
    result,
    rows,
    width,
    eps,
    together: tl.constexpr,
    columns: tl.constexpr,
):
    """A block of rows, as Triton compiles it."""
    row = tl.program_id(0).to(tl.int64) * together + tl.arange(0, together)[:, None]
    column = tl.arange(0, columns)[None, :]
    inside = (row < rows) & (column < width)
    place = row * width + column
    value = tl.load(x + place, inside, 0.0).to(tl.float32)
    value += tl.load(residual + place, inside, 0.0).to(tl.float32)
    mean = tl.sum(value, 1)[:, None] / width
    centered = tl.where(column < width, value - mean, 0.0)
    variance = tl.sum(centered * centered, 1)[:, None] / width
    scale = tl.load(weight + column, column < width, 0.0).to(tl.float32)
    shift = tl.load(bias + column, column < width, 0.0).to(tl.float32)
    normed = centered * tl.rsqrt(variance + eps) * scale + shift
    tl.store(result + place, normed.to(result.dtype.element_ty), inside)


@functools.cache
def _kernel() -> Any:
    import triton
    import triton.language

    globals()["tl"] = triton.language
    return triton.jit(_normed_sum)


def normed_sum(norm: torch.nn.LayerNorm, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Of [rows, width], both laid out row after row."""
    rows, width = x.shape
    columns = 1 << max(width - 1, 0).bit_length()
    together = max(_BLOCK // columns, 1)
    result = torch.empty_like(x)
    _kernel()[(-(-rows // together),)](
        x,
        residual,
        norm.weight,
        norm.bias,
        result,
        rows,
        width,
        norm.eps,
        together=together,
        columns=columns,
        num_warps=8,
    )
    return result
