"""Texts into padded batches under a token budget.

Sorting by token count keeps padding at a few percent, and small batches keep activations in the
processor's cache: docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.runtime import TokenBatch
from core.tokenizer import TokenizedTexts

#: On a CPU a batch whose activations stay in the cache wins.
CPU_BATCH_TOKENS = 512
#: An accelerator wants to be filled.
ACCELERATOR_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Batches:
    """Texts sorted by length and cut into batches.

    Attributes:
        order: int64 [texts]: the text at each sorted position.
        bounds: (first, last + 1) sorted position of each batch.
    """

    tokenized: TokenizedTexts
    order: NDArray[np.int64]
    bounds: list[tuple[int, int]]
    pad_id: int
    padding_side: str
    prompt_tokens: int

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
        """(positions of the texts in the caller's list, the padded batch), longest first."""
        ends = np.cumsum(self.tokenized.lengths)
        for first, last in self.bounds:
            lengths = self.tokenized.lengths[first:last]
            ids = self.tokenized.ids[int(ends[first] - lengths[0]) : int(ends[last - 1])]
            batch = pad(ids, lengths, self.pad_id, self.padding_side, self.prompt_tokens)
            yield self.order[first:last], batch


def cut_batches(
    tokenized: TokenizedTexts,
    *,
    batch_tokens: int,
    batch_size: int | None,
    pad_id: int,
    padding_side: str,
    prompt_tokens: int = 0,
) -> Batches:
    """Sort by token count, longest first, and fill batches up to `batch_tokens` padded tokens.

    A single text over the budget makes a batch of its own.
    """
    # Longest first: the last batch to finish is a short one, and memory peaks at once.
    order = np.argsort(-tokenized.lengths, kind="stable")
    lengths = tokenized.lengths[order]
    bounds = []
    first, count = 0, len(lengths)
    while first < count:
        width = max(int(lengths[first]), 1)
        rows = max(batch_tokens // width, 1)
        if batch_size is not None:
            rows = min(rows, batch_size)
        last = min(first + rows, count)
        bounds.append((first, last))
        first = last
    return Batches(tokenized.reorder(order), order, bounds, pad_id, padding_side, prompt_tokens)


def pad(
    ids: NDArray[np.int32],
    lengths: NDArray[np.int64],
    pad_id: int,
    padding_side: str,
    prompt_tokens: int = 0,
) -> TokenBatch:
    """One batch of the texts whose token ids lie end to end in `ids`."""
    width = max(int(lengths.max()), 1)
    columns = np.arange(width)
    if padding_side == "left":
        real = columns >= (width - lengths)[:, None]
    else:
        real = columns < lengths[:, None]
    input_ids = np.full((len(lengths), width), pad_id, dtype=np.int64)
    input_ids[real] = ids
    return TokenBatch(
        input_ids=input_ids,
        attention_mask=real.astype(np.int64),
        token_type_ids=np.zeros_like(input_ids),
        prompt_tokens=prompt_tokens,
    )
