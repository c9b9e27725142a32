"""Few different numbers of rows for oneDNN, which makes a kernel for each.

A kernel takes some tenths of a millisecond to make and a quarter to two thirds of a megabyte to
keep, for every size of layer and number of rows (tokens of all texts together). Texts come in any
number, so rows are filled up to one of a few counts.
"""

from __future__ import annotations

import torch

_STEP = 8
#: Counts between one power of two and the next: at most an eighth of the rows is filling.
_PER_DOUBLING = 8


def round_rows(rows: int) -> int:
    """The count that so many rows are filled up to."""
    power_above = 1 << (rows - 1).bit_length()
    step = max(_STEP, power_above // (2 * _PER_DOUBLING))
    return -(-rows // step) * step


def fill_rows(x: torch.Tensor) -> torch.Tensor:
    """`x`, [rows, features], with rows of zeros after it up to one of a few counts."""
    rows, features = x.shape
    count = round_rows(rows)
    if count == rows:
        return x
    return torch.cat((x, x.new_zeros((count - rows, features))))
