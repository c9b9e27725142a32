"""Calibration batches as ONNX Runtime's calibration reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core import TokenBatch
from onnx_backend.graph import Graph


class BatchReader:
    """Gives one feed per call, then None: the protocol of ONNX Runtime's CalibrationDataReader."""

    def __init__(self, graph: Graph, batches: Sequence[TokenBatch]) -> None:
        self._feeds = [graph.feed(batch) for batch in batches]
        self._next = iter(self._feeds)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch's arrays by input name, or None at the end."""
        return next(self._next, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give these batches only, from the first of them."""
        self._next = iter(self._feeds[start_index:end_index])

    def __len__(self) -> int:
        return len(self._feeds)
