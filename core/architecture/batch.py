"""One padded batch of token ids: what every runtime is given."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenBatch:
    """One padded batch.

    Attributes:
        input_ids: int64 [batch, tokens].
        attention_mask: int64 [batch, tokens], 1 for real tokens; padding is on one side only.
        token_type_ids: int64 [batch, tokens].
        prompt_tokens: How many of each row's first real tokens belong to the prompt and are left
            out of pooling (0 for models that pool over the prompt).
        expansion_mask: int64 [batch, tokens], 1 for tokens that fill a query up, which have
            positions whether they are attended to or not; None where there are none.
        scoring_mask: int64 [batch, tokens], 1 for the tokens whose vectors a multi-vector model
            gives; None for all that are real.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    prompt_tokens: int = 0
    expansion_mask: NDArray[np.int64] | None = None
    scoring_mask: NDArray[np.int64] | None = None

    @cached_property
    def position_ids(self) -> NDArray[np.int64]:
        """int64 [batch, tokens]: 0, 1, ... from each row's first real token; 0 on padding."""
        counted = self.attention_mask
        if self.expansion_mask is not None:
            counted = counted | self.expansion_mask
        positions = np.cumsum(counted, axis=1) - 1
        return np.asarray(np.maximum(positions, 0) * counted, dtype=np.int64)

    @cached_property
    def pooling_mask(self) -> NDArray[np.int64]:
        """The attention mask without the prompt's tokens."""
        if not self.prompt_tokens:
            return self.attention_mask
        position = np.cumsum(self.attention_mask, axis=1)
        return np.asarray(
            np.where(position > self.prompt_tokens, self.attention_mask, 0), dtype=np.int64
        )

    def part(self, first: int, last: int) -> TokenBatch:
        """The rows from `first` up to `last`, as wide as before."""
        own = slice(first, last)
        arrays: dict[str, Any] = {
            field.name: value[own]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, **arrays)

    @property
    def rows(self) -> int:
        """How many texts the batch holds."""
        return int(self.input_ids.shape[0])

    @property
    def width(self) -> int:
        """Tokens of a row, padding included."""
        return int(self.input_ids.shape[1])
