"""Calibration batches as nncf reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core import TokenBatch


def feed(batch: TokenBatch, names: Sequence[str]) -> dict[str, Any]:
    """The inputs called `names` of one batch."""
    return {name: getattr(batch, name) for name in names}
