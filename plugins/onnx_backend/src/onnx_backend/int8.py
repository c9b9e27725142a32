"""int8 by this backend's own hand: smoothed, static where that harms little, else row by row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from core import TokenBatch
from core.errors import UnsupportedOperation
from onnx_backend.calibration import channel_ranges
from onnx_backend.graph import Graph
from onnx_backend.presets import adds_int8_exactly
from onnx_backend.rewriting.int8 import to_int8
from onnx_backend.rewriting.products import find_products, name_nodes

#: Without VNNI two products are added in 16 bits: 2 * 255 * 63 fits, 2 * 255 * 127 does not.
_LEVELS, _LEVELS_IN_16_BITS = 127, 63


class Int8Graphs:
    """One graph in int8, with whatever layers in floating point.

    Inputs that layer norms make have a few large channels: they are smoothed, and then one range
    for all texts holds them. What comes out of attention and of activation functions is rounded
    for each token.

    Attributes:
        layers: Products that take the same inputs, by name.
        smoothed: How many inputs are smoothed, and rounded by their range.
        weight_levels: The largest integer that a weight becomes.
    """

    def __init__(
        self, model: Any, graph: Graph, batches: Sequence[TokenBatch], scratch: Path
    ) -> None:
        name_nodes(model)
        self._model = model
        self._inputs = find_products(model, scratch)
        if not self._inputs:
            raise UnsupportedOperation("There are no products with weights to quantize.")
        norms = [entry.name for entry in self._inputs if entry.is_norm]
        self._ranges = channel_ranges(model, norms, graph, batches, scratch)
        self._static = frozenset(self._ranges)
        self.smoothed = len(norms)
        self.weight_levels = _LEVELS if adds_int8_exactly() else _LEVELS_IN_16_BITS
        self.layers = [entry.products for entry in self._inputs]

    def make(self, kept: Collection[str] = ()) -> Any:
        """The model with these products in floating point."""
        return to_int8(
            self._model,
            self._inputs,
            self._ranges,
            static=self._static,
            kept=kept,
            weight_levels=self.weight_levels,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return {
            "inputs": len(self._inputs),
            "smoothed": self.smoothed,
            "static": len(self._static),
            "weight_levels": self.weight_levels,
        }
