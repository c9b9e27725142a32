"""int8 by this backend's own hand: smoothed, static where that harms little, else row by row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from core import TokenBatch
from core.errors import UnsupportedOperation
from core.toolkit import WeightRounder
from onnx_backend.calibration import observe
from onnx_backend.graph import Graph
from onnx_backend.presets import adds_int8_exactly
from onnx_backend.rewriting.int8 import to_int8
from onnx_backend.rewriting.nodes import constants, name_nodes
from onnx_backend.rewriting.products import find_products, turn_weights, weight_of


class Int8Graphs:
    """One graph in int8, with whatever layers in floating point.

    Inputs that layer norms make have a few large channels: they are smoothed, and then one range
    for all texts holds them. What comes out of attention and of activation functions is rounded
    for each token. Weights are rounded so that products of what the texts give them change least.

    Attributes:
        layers: Products that take the same inputs, by name.
        smoothed: How many inputs are smoothed, and rounded by their range.
        adds_in_16_bits: Whether the file is for processors that add two products in 16 bits.
    """

    def __init__(
        self, model: Any, graph: Graph, batches: Sequence[TokenBatch], scratch: Path
    ) -> None:
        name_nodes(model)
        turn_weights(model)
        self._model = model
        self._inputs = find_products(model, scratch)
        if not self._inputs:
            raise UnsupportedOperation("There are no products with weights to quantize.")
        norms = [entry.name for entry in self._inputs if entry.is_norm]
        known, nodes = constants(model), {node.name: node for node in model.graph.node}
        channels = {
            entry.name: len(weight_of(nodes[entry.products[0]], known)) for entry in self._inputs
        }
        self._ranges, moments = observe(model, norms, channels, graph, batches, scratch)
        self._static = frozenset(self._ranges)
        self.smoothed = len(norms)
        self.adds_in_16_bits = not adds_int8_exactly()
        self._rounder = WeightRounder(moments, adds_in_16_bits=self.adds_in_16_bits)
        self.layers = [entry.products for entry in self._inputs]

    def make(self, kept: Collection[str] = ()) -> Any:
        """The model with these products in floating point."""
        return to_int8(
            self._model,
            self._inputs,
            self._ranges,
            self._rounder,
            static=self._static,
            kept=kept,
            adds_in_16_bits=self.adds_in_16_bits,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return {
            "inputs": len(self._inputs),
            "smoothed": self.smoothed,
            "static": len(self._static),
            "adds_in_16_bits": self.adds_in_16_bits,
        }
