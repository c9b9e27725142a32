"""Calibration: batches as ONNX Runtime reads them, and what activations are in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core import TokenBatch
from core.toolkit import ChannelRanges, Moments, moment_parts
from onnx_backend.device import CPU, import_runtime
from onnx_backend.files import save_model
from onnx_backend.graph import Graph
from onnx_backend.quiet import quiet_options

#: An input of graphs that compute moments: 1 for each row that is a token, 0 for padding.
_ROWS = "observed_rows"


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


def observe(
    model: Any,
    ranged: Sequence[str],
    channels: Mapping[str, int],
    graph: Graph,
    batches: Sequence[TokenBatch],
    scratch: Path,
) -> tuple[dict[str, ChannelRanges], dict[str, Moments]]:
    """What values of a model are in these batches, padding left out, by name.

    Args:
        ranged: Names of values [batch, tokens, channels] or [batch * tokens, channels] whose ranges
            are wanted.
        channels: Of the values whose moments are wanted, by name.
        graph: What the model takes.
    """
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    moments = {_add_moments(observed.graph, name, n): name for name, n in channels.items()}
    if moments:
        real_rows = helper.make_tensor_value_info(_ROWS, TensorProto.FLOAT, [None, 1])
        observed.graph.input.append(real_rows)
    wanted = [*ranged, *moments]
    if not wanted:
        return {}, {}
    observed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    onnxruntime = import_runtime()
    path = scratch / save_model(observed, scratch, "ranges.onnx")[0]
    session = onnxruntime.InferenceSession(
        str(path), quiet_options(), providers=[CPU], enable_fallback=0
    )
    ranges: dict[str, ChannelRanges] = {}
    related = {name: Moments(count) for name, count in channels.items()}
    for batch in batches:
        real = batch.attention_mask.astype(bool).reshape(-1)
        feed: dict[str, Any] = dict(graph.feed(batch))
        if moments:
            feed[_ROWS] = real[:, None].astype(np.float32)
        for name, found in zip(wanted, session.run(wanted, feed), strict=True):
            if name in moments:
                related[moments[name]].add(found, int(real.sum()))
                continue
            values = np.asarray(found, dtype=np.float32).reshape(-1, np.shape(found)[-1])[real]
            low, high = values.min(axis=0), values.max(axis=0)
            if name in ranges:
                ranges[name].add(low, high)
            else:
                ranges[name] = ChannelRanges(low, high)
    return ranges, related


def _add_moments(graph: Any, value: str, channels: int) -> str:
    """Have a graph compute the moments of a value as well; the name of the result."""
    parts = moment_parts(channels)

    def add(operator: str, inputs: list[str], step: str, **attributes: Any) -> str:
        name = f"{value}_moments_{step}"
        graph.node.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def shape(sizes: list[int], step: str) -> str:
        name = f"{value}_moments_{step}"
        graph.initializer.append(numpy_helper.from_array(np.array(sizes, dtype=np.int64), name))
        return name

    rows = add("Reshape", [value, shape([-1, channels], "flat_shape")], "flat")
    rows = add("Mul", [rows, _ROWS], "real")
    split = shape([-1, parts, channels // parts], "split_shape")
    rows = add("Reshape", [rows, split], "split")
    turned = add("Transpose", [rows], "turned", perm=[1, 2, 0])
    rows = add("Transpose", [rows], "rows", perm=[1, 0, 2])
    return add("MatMul", [turned, rows], "sums")
