"""Attention within each text of packed tokens.

Three ways: `torch.nn.attention.varlen` where PyTorch has it, the kernel of the package flash-attn
where that is installed, both on a CUDA GPU in half precision; and PyTorch's usual attention, one
call for each run of texts of equal length, on any device in any precision.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_backend.packed.tokens import PackedTokens

#: query, key and value [tokens, heads, head size], the tokens, and how many tokens to each side
#: are attended to (None for all) -> [tokens, heads, head size].
Attention = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, PackedTokens, int | None], torch.Tensor
]

_HALF = (torch.float16, torch.bfloat16)
# What both kernels take: compute capability, and heads' sizes.
_LEAST_CAPABILITY = (8, 0)
_MOST_HEAD_SIZE = 256
_HEAD_SIZE_STEP = 8


def choose_attention(device: torch.device, dtype: torch.dtype, head_size: int) -> str:
    """The name of the best there is, of `ATTENTIONS`."""
    if (
        device.type == "cuda"
        and dtype in _HALF
        and head_size <= _MOST_HEAD_SIZE
        and head_size % _HEAD_SIZE_STEP == 0
        and torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY
    ):
        if importlib.util.find_spec("torch.nn.attention.varlen") is not None:
            return "varlen_attn"
        if importlib.util.find_spec("flash_attn") is not None:
            return "flash_attn"
    return "sdpa"


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tokens: PackedTokens,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # Its first version has no windows: the check at load sees that.
    sides: Any = {} if window is None else {"window_size": (window, window)}
    bounds, longest = tokens.bounds, tokens.longest
    result: Any = varlen_attn(query, key, value, bounds, bounds, longest, longest, **sides)
    attended: torch.Tensor = result
    return attended


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tokens: PackedTokens,
    window: int | None,
) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func

    sides = (-1, -1) if window is None else (window, window)
    bounds, longest = tokens.bounds, tokens.longest
    attended: torch.Tensor = flash_attn_varlen_func(
        query, key, value, bounds, bounds, longest, longest, window_size=sides
    )
    return attended


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tokens: PackedTokens,
    window: int | None,
) -> torch.Tensor:
    lengths = tokens.lengths
    if lengths is None:
        lengths = np.diff(tokens.bounds.cpu().numpy())
    result = torch.empty_like(query, memory_format=torch.contiguous_format)
    start = 0
    for length, group in itertools.groupby(lengths.tolist()):
        if not length:
            continue
        texts = len(list(group))
        part = slice(start, start + texts * length)
        # [texts, heads, length, head size]
        queries, keys, values = (
            x[part].view(texts, length, *x.shape[1:]).transpose(1, 2) for x in (query, key, value)
        )
        attended = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=_band(length, window, query.device)
        )
        result[part] = attended.transpose(1, 2).flatten(0, 1)
        start = part.stop
    return result


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which tokens are no further than `window` from one another; None where all are."""
    if window is None or length <= window + 1:
        return None
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None, :]).abs() <= window


#: By the names that a runtime reports.
ATTENTIONS: dict[str, Attention] = {
    "varlen_attn": _varlen,
    "flash_attn": _flash,
    "sdpa": _sdpa,
}

#: Those that compute a whole batch at once.
KERNELS = ("varlen_attn", "flash_attn")
