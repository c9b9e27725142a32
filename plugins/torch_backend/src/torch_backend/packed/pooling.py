"""Packed hidden states to one vector a text, in float32.

The modes, and what a text without tokens gets (zeros), are those of `core`'s pooling of padded
batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from torch_backend.packed.tokens import PackedTokens, Segments


def pool(hidden: torch.Tensor, tokens: PackedTokens, modes: Sequence[str]) -> torch.Tensor:
    """Hidden states [tokens, hidden] pooled to float32 [texts, modes x hidden]."""
    needed = hidden if set(modes) <= _PLACES.keys() else hidden.float()
    pooled = [_POOL[mode](needed, tokens).float() for mode in modes]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)


def _lengths(segments: Segments) -> torch.Tensor:
    return segments.bounds.diff()[:, None]


def _bags(
    hidden: torch.Tensor, segments: Segments, mode: str, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Sums, means or maxima of each text's tokens: zeros where it has none."""
    index = segments.index
    if index is None:
        index = torch.arange(len(hidden), dtype=torch.int32, device=hidden.device)
    return torch.nn.functional.embedding_bag(
        index,
        hidden,
        segments.bounds,
        mode=mode,
        per_sample_weights=weights,
        include_last_offset=True,
    )


def _mean(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    return _bags(hidden, tokens.pooled, "mean")


def _max(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    return _bags(hidden, tokens.pooled, "max")


def _mean_sqrt_len(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    lengths = _lengths(tokens.pooled).clip(min=1)
    return _bags(hidden, tokens.pooled, "sum") / lengths.float().sqrt()


def _weightedmean(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    # Weights 1, 2, ... count from the text's first token, the prompt's tokens included.
    prompt, pooled = tokens.prompt_tokens, tokens.pooled
    lengths = _lengths(pooled)
    entries = len(hidden) if pooled.index is None else len(pooled.index)
    starts = torch.repeat_interleave(pooled.bounds[:-1], lengths[:, 0], output_size=entries)
    count = torch.arange(entries, dtype=torch.int32, device=hidden.device)
    weights = (count - starts + 1 + prompt).float()
    total = (lengths * prompt + lengths * (lengths + 1) / 2).float().clip(min=1e-9)
    return _bags(hidden, pooled, "sum", weights) / total


def _at(hidden: torch.Tensor, segments: Segments, entries: torch.Tensor) -> torch.Tensor:
    """The state at one entry of each text."""
    index = segments.index
    most = (len(hidden) if index is None else len(index)) - 1
    if most < 0:
        return hidden.new_zeros((len(entries), hidden.shape[-1]))
    places = entries.clip(0, most)
    states = hidden[places if index is None else index[places]]
    return torch.where(_lengths(segments) > 0, states, 0.0)


def _cls(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    return _at(hidden, tokens.pooled, tokens.pooled.bounds[:-1])


def _lasttoken(hidden: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    return _at(hidden, tokens.pooled, tokens.pooled.bounds[1:] - 1)


_Pool = Callable[[torch.Tensor, PackedTokens], torch.Tensor]
# These only choose: what they choose is made float32 afterwards.
_PLACES: Mapping[str, _Pool] = {"cls": _cls, "lasttoken": _lasttoken}
_POOL: Mapping[str, _Pool] = {
    **_PLACES,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weightedmean,
}
