"""A batch's tokens end to end, on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from torch_backend.transfers import Staging, copy_over


@dataclass(frozen=True)
class Segments:
    """Which tokens belong to which text, all of them end to end or some of them.

    Attributes:
        bounds: int32 [texts + 1]: text i has the entries from `bounds[i]` up to `bounds[i + 1]`.
        index: int32 [entries]: the token at each entry; None where the entries are the tokens.
    """

    bounds: torch.Tensor
    index: torch.Tensor | None = None


@dataclass(frozen=True)
class PackedTokens:
    """The real tokens of a batch, text after text.

    Attributes:
        ids: int32 [tokens].
        positions: int32 [tokens], as the encoder's position embeddings count.
        types: int32 [tokens], token types; None where all are 0.
        bounds: int32 [texts + 1], as in `Segments`.
        longest: Tokens of the longest text, or more.
        lengths: Tokens of each text, known here without asking the device; None where a recorded
            graph computes texts of other lengths as well.
        pooled: The tokens that pooling takes.
        prompt_tokens: How many of each text's first tokens are not among them.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor | None
    bounds: torch.Tensor
    longest: int
    lengths: NDArray[np.int64] | None
    pooled: Segments
    prompt_tokens: int = 0


def pack(
    batch: TokenBatch,
    staging: Staging,
    positions: NDArray[np.int64],
    *,
    has_types: bool = True,
    pools_prompt: bool = True,
) -> PackedTokens:
    """The batch without its padding, copied to the device at once.

    Args:
        staging: Copies them.
        positions: int64 [batch, tokens], as the encoder counts them.
        has_types: Whether the encoder has token types.
        pools_prompt: Whether pooling takes the prompt's tokens as well.
    """
    real = np.flatnonzero(batch.attention_mask)
    lengths = batch.attention_mask.sum(axis=1)
    parts: list[NDArray[Any]] = [
        batch.input_ids.reshape(-1)[real],
        positions.reshape(-1)[real],
        _bounds(lengths),
    ]
    typed = has_types and bool(batch.token_type_ids.any())
    if typed:
        parts.append(batch.token_type_ids.reshape(-1)[real])
    prompt_tokens = 0 if pools_prompt else batch.prompt_tokens
    if prompt_tokens:
        kept = batch.pooling_mask.reshape(-1)[real]
        parts += [np.flatnonzero(kept), _bounds(batch.pooling_mask.sum(axis=1))]
    ids, places, bounds, *more = staging.copy_over(parts)
    types = more.pop(0) if typed else None
    pooled = Segments(more[1], more[0]) if more else Segments(bounds)
    longest = int(lengths.max(initial=0))
    return PackedTokens(ids, places, types, bounds, longest, lengths, pooled, prompt_tokens)


def _bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])


def unpack(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """Hidden states [tokens, hidden] as [batch, tokens, hidden], zeros at padding."""
    real = copy_over(torch.from_numpy(np.flatnonzero(batch.attention_mask)), hidden.device)
    padded = hidden.new_zeros((batch.rows * batch.width, hidden.shape[-1]))
    return padded.index_copy_(0, real, hidden).view(batch.rows, batch.width, -1)
