"""Calibration: batches as ONNX Runtime reads them, and what activations range over in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from core import TokenBatch
from core.toolkit import ChannelRanges
from onnx_backend.device import CPU, import_runtime
from onnx_backend.files import save_model
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


def channel_ranges(
    model: Any, names: Sequence[str], graph: Graph, batches: Sequence[TokenBatch], scratch: Path
) -> dict[str, ChannelRanges]:
    """The range of each channel of the values called `names`, padding left out, by name.

    Args:
        names: Of values [batch, tokens, channels] or [batch * tokens, channels].
        graph: What the model takes.
    """
    if not names:
        return {}
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    path = scratch / save_model(observed, scratch, "ranges.onnx")[0]
    session = onnxruntime.InferenceSession(str(path), options, providers=[CPU], enable_fallback=0)
    ranges: dict[str, ChannelRanges] = {}
    for batch in batches:
        real = batch.attention_mask.astype(bool).reshape(-1)
        for name, found in zip(names, session.run(list(names), graph.feed(batch)), strict=True):
            values = np.asarray(found, dtype=np.float32).reshape(-1, np.shape(found)[-1])[real]
            low, high = values.min(axis=0), values.max(axis=0)
            if name in ranges:
                ranges[name].add(low, high)
            else:
                ranges[name] = ChannelRanges(low, high)
    return ranges
