"""Which shapes a graph is run with: few, so that kernels made for a shape serve many batches.

OpenVINO prepares its kernels anew for every shape it does not remember. Tokens are rounded up to a
grid of 16 steps an octave (at most 6 % more), rows to one of 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core import TokenBatch

_WIDTH_STEPS = 16
_ROW_STEPS = 8


def round_up(count: int, steps: int = _WIDTH_STEPS) -> int:
    """The next size of the grid: every number to 2 x `steps`, then every second, every fourth..."""
    step = max((1 << (count - 1).bit_length()) // (2 * steps), 1) if count > 1 else 1
    return -(-count // step) * step


@dataclass(frozen=True)
class Shape:
    """Rows and tokens a graph takes; None where any number will do.

    Attributes:
        exact: Whether a row must have no padding at all.
        fill: The token that tokens added to a row are; None for any.
    """

    rows: int | None = None
    width: int | None = None
    exact: bool = False
    fill: int | None = None

    def padded(self, batch: TokenBatch) -> TokenBatch:
        """The batch with rows and tokens filled up to the grid, or to what is fixed.

        Tokens are added on the right, also to a batch padded on the left: positions that a model
        counts by column must not move. Added rows repeat the first, so that none is empty.
        """
        rows = self.rows or round_up(batch.rows, _ROW_STEPS)
        width = self.width or (batch.width if self.exact else round_up(batch.width))
        if (rows, width) == (batch.rows, batch.width):
            return batch
        return TokenBatch(
            input_ids=_fill(batch.input_ids, rows, width, self.fill),
            attention_mask=_fill(batch.attention_mask, rows, width, 0),
            token_type_ids=_fill(batch.token_type_ids, rows, width, 0),
            prompt_tokens=batch.prompt_tokens,
            expansion_mask=(
                None
                if batch.expansion_mask is None
                else _fill(batch.expansion_mask, rows, width, 0)
            ),
        )


def _fill(array: NDArray[np.int64], rows: int, width: int, value: int | None) -> NDArray[np.int64]:
    filled = np.empty((rows, width), dtype=np.int64)
    have_rows, have_width = array.shape
    filled[:have_rows, :have_width] = array
    # Any token will do where the mask is 0; the first one of each row is one of the vocabulary.
    filled[:have_rows, have_width:] = array[:, :1] if value is None else value
    filled[have_rows:] = filled[0]
    return filled
