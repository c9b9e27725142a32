"""Relative positions of DeBERTa in a form that every runtime computes alike.

DeBERTa since version 2 (https://arxiv.org/abs/2006.03654) puts distances between tokens into
buckets by their logarithm, rounded up. The largest distance lies on the edge of a bucket, where
the last bit of a runtime's logarithm decides between two. A table holds what PyTorch decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.toolkit import process_wide

_FUNCTION = "make_log_bucket_position"


@process_wide
@contextmanager
def tabled_positions() -> Iterator[None]:
    """Look buckets up while the context lasts."""
    from transformers.models.deberta_v2 import modeling_deberta_v2

    original = getattr(modeling_deberta_v2, _FUNCTION, None)
    if original is None:
        yield
        return

    def look_up(relative: Any, bucket_size: int, max_position: int) -> Any:
        """Of distances, int64 of any shape, the buckets, int64."""
        import torch

        # All beyond the last distance are in the bucket after the last, which attention clips.
        buckets = original(torch.arange(max_position + 1), bucket_size, max_position)
        # As numbers: a tensor's history would be traced, and with it the logarithm.
        table = torch.tensor(buckets.tolist()).long()
        distances = relative.abs().clamp(max=max_position)
        return table[distances] * relative.sign()

    try:
        setattr(modeling_deberta_v2, _FUNCTION, look_up)
        yield
    finally:
        setattr(modeling_deberta_v2, _FUNCTION, original)
