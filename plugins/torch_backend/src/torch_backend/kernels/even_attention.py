"""Attention that sums in one order, however wide a batch is.

PyTorch's attention on a CPU sums over the keys in blocks of a vector's width, and what is left of
the last block in another order; so it does with the last few queries. A text that is padded to
another width differs in the last bit. Where activations are rounded to int8, such a bit sends a
value to the next step, and some layers on, that has grown to the size of all the rounding. Queries,
keys and values are therefore padded to whole blocks, and what was added is masked.

Products over more than 192 keys are split into parts by MKL, of a size that depends on their
number. So that many keys are taken in parts of 192, each with a softmax of its own, and the parts
are put together by the logarithms of their sums, as flash attention does
(https://arxiv.org/abs/2205.14135, algorithm 1). A part without any visible key has no weight.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn import functional

#: A vector's width in float32 with AVX-512; a multiple of narrower ones.
_BLOCK = 16
#: Keys of which MKL adds all products one after the other.
_PART = 192
_NAME = "core_even"


def attend_evenly(module: torch.nn.Module) -> None:
    """Let a transformer that attends by transformers' `sdpa` do so in whole blocks.

    One with attention of its own stays as it is: transformers offers no way in.
    """
    config: Any = getattr(module, "config", None)
    offers = getattr(module, "_supports_attention_backend", False)
    if offers and getattr(config, "_attn_implementation", None) == "sdpa" and _registered():
        config._attn_implementation = _NAME


@functools.cache
def _registered() -> bool:
    """Make the attention known to transformers; False where it is too old for that."""
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError:
        return False
    ALL_ATTENTION_FUNCTIONS.register(_NAME, functools.partial(_attend, ALL_ATTENTION_FUNCTIONS))
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return True


def _attend(
    known: Any,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: [batch, heads, tokens, size] to [batch, tokens, ...].

    The mask is boolean, or added to the scores; of shape [batch, 1, tokens, keys].
    """
    tokens, keys = query.shape[2], key.shape[2]
    rows, columns = -tokens % _BLOCK, -keys % _BLOCK
    if attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        attention_mask = torch.ones(1, 1, tokens, keys, dtype=torch.bool, device=query.device)
        attention_mask = attention_mask.tril() if causal else attention_mask
    hidden = False if attention_mask.dtype == torch.bool else torch.finfo(query.dtype).min
    seen = True if attention_mask.dtype == torch.bool else 0.0
    mask = functional.pad(attention_mask, (0, columns), value=hidden)
    if mask.shape[2] == tokens:
        # A query without any key has no softmax; what it gives is cut off.
        mask = functional.pad(mask, (0, 0, 0, rows), value=seen)
    if position_bias is not None:
        position_bias = functional.pad(position_bias, (0, columns, 0, rows))
    query = functional.pad(query, (0, 0, 0, rows))
    key, value = (functional.pad(x, (0, 0, 0, columns)) for x in (key, value))
    if key.shape[2] > _PART and query.device.type == "cpu":
        result = _in_parts(query, key, value, mask, position_bias, options.get("scaling"))
        return result.transpose(1, 2)[:, :tokens].contiguous(), None
    if position_bias is not None:
        options["position_bias"] = position_bias
    result, weights = known["sdpa"](module, query, key, value, mask, is_causal=False, **options)
    return result[:, :tokens], weights


def _in_parts(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """Attention [batch, heads, tokens, size], over parts of the keys."""
    added = mask
    if mask.dtype == torch.bool:
        lowest = torch.finfo(query.dtype).min
        added = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, lowest)
    if bias is not None:
        added = added + bias
    groups = query.shape[1] // key.shape[1]  # of heads that share keys and values
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    parts, sums = [], []
    for start in range(0, key.shape[2], _PART):
        part = slice(start, start + _PART)
        result, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key[:, :, part], value[:, :, part], attn_mask=added[..., part], scale=scale
        )
        parts.append(result)
        sums.append(total)
    weights = torch.softmax(torch.stack(sums), dim=0).to(query.dtype)
    whole: torch.Tensor = parts[0] * weights[0][..., None]
    for result, weight in zip(parts[1:], weights[1:], strict=True):
        whole.addcmul_(result, weight[..., None])
    return whole
