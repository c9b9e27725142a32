"""Calibration batches as nncf reads them, and what activations range over in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core import TokenBatch
from core.toolkit import ChannelRanges
from openvino_backend.device import PRECISION_HINT
from openvino_backend.imports import openvino
from openvino_backend.rewriting.products import Inputs, named_nodes

ops = openvino.opset13


def feed(batch: TokenBatch, names: Sequence[str]) -> dict[str, Any]:
    """The inputs called `names` of one batch."""
    return {name: getattr(batch, name) for name in names}


def channel_ranges(
    graph: Any, inputs: Sequence[Inputs], batches: Sequence[TokenBatch], names: Sequence[str]
) -> dict[str, ChannelRanges]:
    """The range of each channel of `inputs` over the batches, padding left out, by name."""
    nodes = named_nodes(graph)
    mask = next((p for p in graph.inputs if "attention_mask" in p.get_names()), None)
    results = []
    for entry in inputs:
        value = nodes[entry.name].output(0)
        if mask is not None:
            real = ops.unsqueeze(ops.convert(mask.get_node().output(0), "f32"), np.int64(2))
            value = ops.multiply(value, real).output(0)
        axes = np.array([0, 1], dtype=np.int64)
        results += [
            ops.result(ops.reduce_min(value, axes)),
            ops.result(ops.reduce_max(value, axes)),
        ]
    observed = openvino.Model(results, graph.get_parameters(), "ranges")
    compiled = openvino.Core().compile_model(observed, "CPU", {PRECISION_HINT: "f32"})
    ranges: dict[str, ChannelRanges] = {}
    for batch in batches:
        found = compiled(feed(batch, names))
        for number, entry in enumerate(inputs):
            low, high = (np.array(found[2 * number + i], dtype=np.float32) for i in (0, 1))
            if entry.name in ranges:
                ranges[entry.name].add(low, high)
            else:
                ranges[entry.name] = ChannelRanges(low, high)
    return ranges
