"""int8 by this backend's own hand: smoothed, static where that harms little, dynamic elsewhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from core import TokenBatch
from core.toolkit import ChannelRanges, Moments, WeightRounder
from openvino_backend.calibration import observe
from openvino_backend.presets import CLOSEST, FASTEST
from openvino_backend.processor import Needs, multiplies_bfloat16, multiplies_int8
from openvino_backend.rewriting.attention import pad_keys
from openvino_backend.rewriting.int8 import to_int8
from openvino_backend.rewriting.products import Inputs, find_products, weight_of

#: Values of a token that are rounded together. Whole rows of 384 were no faster on
#: all-MiniLM-L6-v2 and drifted more; 32, OpenVINO's default, takes a quarter longer.
_GROUP, _LEAST_GROUP = 128, 32


class Int8Graphs:
    """One graph in int8, with whatever layers in floating point.

    Inputs that layer norms make have a few large channels: they are smoothed, and then one range
    for all texts holds them. What comes out of attention and of activation functions is rounded
    for each token. `"fastest"` rounds everything by its range, `"closest"` nothing. Weights are
    rounded so that products of what the texts give them change least.

    On a processor without int8 dot products all of that would cost time and gain none: there only
    the weights are int8, and products compute in float32.

    Attributes:
        needs: What the graphs are made for.
        layers: Products that take the same inputs, by name.
        smoothed: How many inputs are smoothed.
        static: Names of inputs that are rounded by their range.
        calibrated: Whether ranges and moments were found.
    """

    def __init__(
        self, graph: Any, name: str, batches: Sequence[TokenBatch], input_names: Sequence[str]
    ) -> None:
        self._graph = graph
        self._inputs = find_products(graph)
        self.calibrated = multiplies_int8()
        self._ranges: dict[str, ChannelRanges] = {}
        moments: dict[str, Moments] = {}
        if self.calibrated:
            self._ranges, moments = observe(graph, self._inputs, batches, input_names)
        self._rounder = WeightRounder(moments)
        self.smoothed = sum(entry.is_norm for entry in self._inputs)
        self.static: frozenset[str] = frozenset()
        if self.calibrated:
            self.static = _static(self._inputs, name)
        else:
            self.smoothed = 0
        group = _group_size(graph, self._inputs, self.static)
        self.needs = Needs(
            int8=self.calibrated,
            bfloat16=self.calibrated and multiplies_bfloat16(),
            group_size=group if self.calibrated else None,
        )

    @property
    def layers(self) -> list[tuple[str, ...]]:
        return [entry.products for entry in self._inputs]

    def make(self, kept: Collection[str] = ()) -> Any:
        """The graph with these products in floating point."""
        made = to_int8(
            self._graph,
            self._inputs,
            self._ranges,
            self._rounder,
            static=self.static,
            kept=kept,
        )
        if self.calibrated:
            pad_keys(made)
        self.needs.write(made)
        return made

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return {
            "inputs": len(self._inputs),
            "smoothed": self.smoothed,
            "static": len(self.static),
            "needs": self.needs.as_json(),
        }


def _static(inputs: Sequence[Inputs], name: str) -> frozenset[str]:
    if name == CLOSEST:
        return frozenset()
    return frozenset(e.name for e in inputs if e.is_norm or name == FASTEST)


def _group_size(graph: Any, inputs: Sequence[Inputs], static: Collection[str]) -> int | None:
    """How many values to round together, of inputs that are not `static`.

    A group that does not divide a row, or is larger than one, makes OpenVINO far slower.
    """
    nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
    widths = []
    for entry in inputs:
        weight = weight_of(nodes[entry.products[0]])
        if weight is not None and entry.name not in static:
            widths.append(weight.shape[0])
    common = math.gcd(_GROUP, *widths) if widths else 0
    return common if common >= _LEAST_GROUP else None
