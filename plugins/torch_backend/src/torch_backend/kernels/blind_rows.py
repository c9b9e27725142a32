"""Tokens that attention shows nothing, in graphs as in torch.

What a query is filled up with and does not attend to is masked. Where a model looks no further than
a window, or only back, some of these tokens see no token at all. PyTorch's attention gives zeros
for them; transformers' own ("eager"), from which graphs are traced, the mean of everything.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core import Architecture

_NAME = "core_blind"


@contextmanager
def blind_rows(module: torch.nn.Module, architecture: Architecture) -> Iterator[None]:
    """Give zeros for tokens that see none while the context lasts, where a model has any.

    One with attention of its own stays as it is: transformers offers no way in.
    """
    config: Any = getattr(module, "config", None)
    eager = getattr(config, "_attn_implementation", None) == "eager"
    offers = getattr(module, "_supports_attention_backend", False)
    if not (eager and offers and _has_some(module, architecture) and _registered()):
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "eager"


def _has_some(module: torch.nn.Module, architecture: Architecture) -> bool:
    rules = architecture.late_interaction
    expansion = None if rules is None else rules.expansion
    if expansion is None or expansion.attend:
        return False
    window = getattr(module.config, "sliding_window", None)
    narrow = isinstance(window, int) and window < expansion.length
    return narrow or any(getattr(part, "is_causal", False) for part in module.modules())


@functools.cache
def _registered() -> bool:
    """Make the attention known to transformers; False where it is too old for that."""
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError:
        return False
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    return True


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> Any:
    """The architecture's own attention, [batch, tokens, heads, size] and weights.

    The mask is added to the scores: float [batch, 1, tokens, keys], zero or the lowest number.
    """
    own = sys.modules[type(module).__module__].eager_attention_forward
    result, weights = own(module, query, key, value, attention_mask, **options)
    if attention_mask is not None:
        sees = attention_mask.amax(dim=-1) > -1  # [batch, 1, tokens]
        result = result * sees.transpose(1, 2)[..., None].to(result.dtype)
    return result, weights
