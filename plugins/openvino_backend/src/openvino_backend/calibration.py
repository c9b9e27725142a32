"""Calibration batches as nncf reads them, and what activations are in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core import TokenBatch
from core.toolkit import ChannelRanges, Moments, moment_parts
from openvino_backend.device import PRECISION_HINT, cpu_threads
from openvino_backend.imports import openvino
from openvino_backend.rewriting.products import Inputs, named_nodes, weight_of

ops = openvino.opset13


def feed(batch: TokenBatch, names: Sequence[str]) -> dict[str, Any]:
    """The inputs called `names` of one batch."""
    return {name: getattr(batch, name) for name in names}


def observe(
    graph: Any, inputs: Sequence[Inputs], batches: Sequence[TokenBatch], names: Sequence[str]
) -> tuple[dict[str, ChannelRanges], dict[str, Moments]]:
    """What `inputs` are in these batches, padding left out: ranges and moments, by name."""
    nodes = named_nodes(graph)
    mask = next((p for p in graph.inputs if "attention_mask" in p.get_names()), None)
    results = []
    moments: dict[str, Moments] = {}
    for entry in inputs:
        value = nodes[entry.name].output(0)
        if mask is not None:
            real = ops.unsqueeze(ops.convert(mask.get_node().output(0), "f32"), np.int64(2))
            value = ops.multiply(value, real).output(0)
        axes = np.array([0, 1], dtype=np.int64)
        weight = weight_of(nodes[entry.products[0]])
        assert weight is not None
        moments[entry.name] = Moments(len(weight))
        results += [
            ops.result(ops.reduce_min(value, axes)),
            ops.result(ops.reduce_max(value, axes)),
            ops.result(_moments(value, len(weight))),
        ]
    observed = openvino.Model(results, graph.get_parameters(), "ranges")
    compiled = openvino.Core().compile_model(
        observed, "CPU", {PRECISION_HINT: "f32", **cpu_threads()}
    )
    ranges: dict[str, ChannelRanges] = {}
    for batch in batches:
        found = compiled(feed(batch, names))
        for number, entry in enumerate(inputs):
            low, high, sums = (np.array(found[3 * number + i], dtype=np.float32) for i in range(3))
            moments[entry.name].add(sums, int(batch.attention_mask.sum()))
            if entry.name in ranges:
                ranges[entry.name].add(low, high)
            else:
                ranges[entry.name] = ChannelRanges(low, high)
    return ranges, moments


def _moments(value: Any, channels: int) -> Any:
    """The sums of `Moments`, of a value [batch, tokens, channels]."""
    parts = moment_parts(channels)
    shape = np.array([-1, parts, channels // parts], dtype=np.int64)
    rows = ops.transpose(ops.reshape(value, shape, False), np.array([1, 0, 2], dtype=np.int64))
    return ops.matmul(rows, rows, True, False)
