"""Shapes and types of every value in a graph, found by running it once on a small batch.

ONNX Runtime's fusions ask for them and by default infer them with sympy, which is larger than
ONNX Runtime's own Python package. A run is exact where inference gives up.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_backend.device import CPU, import_runtime
from onnx_backend.files import save_model
from onnx_backend.quiet import quiet_options

# Primes that no layer is wide: equal sizes in this run are equal in every run. A model may have
# fewer positions than the first number of tokens.
_BATCH, _TOKENS = 5, (13, 7, 3)


class RuntimeShapes:
    """Answers what ONNX Runtime's `SymbolicShapeInferenceHelper` is asked by the fusions.

    Attributes:
        known_vi_: A ValueInfoProto for every value seen (the name the fusions read it by).
        tokens: The number of them in each text of the batch.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.known_vi_: dict[str, Any] = {}
        self.tokens: int | None = None

    def update(self, model: Any) -> bool:
        """Look at a graph; values keep what was found of them before."""
        for weight in model.graph.initializer:
            if weight.name not in self.known_vi_:
                self._set(weight.name, weight.data_type, list(weight.dims))
        names = [name for node in model.graph.node for name in node.output if name]
        unknown = [name for name in names if name not in self.known_vi_]
        return not unknown or self._run(model, unknown)

    def get_edge_shape(self, edge: str) -> list[int] | None:
        """The value's shape, or None where it was never seen."""
        info = self.known_vi_.get(edge)
        return None if info is None else [d.dim_value for d in info.type.tensor_type.shape.dim]

    def compare_shape(self, edge: str, other: str) -> bool:
        """Whether two values have the same shape."""
        return self.get_edge_shape(edge) == self.get_edge_shape(other) is not None

    def _set(self, name: str, data_type: int, shape: list[int]) -> None:
        self.known_vi_[name] = helper.make_tensor_value_info(name, data_type, shape)

    def _run(self, model: Any, names: list[str]) -> bool:
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        present = {value.name for value in probe.graph.output}
        probe.graph.output.extend(
            helper.make_empty_tensor_value_info(name) for name in names if name not in present
        )
        onnxruntime = import_runtime()
        options = quiet_options()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = self._scratch / save_model(probe, self._scratch, "shapes.onnx")[0]
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=[CPU], enable_fallback=0
            )
        except Exception:  # a graph that does not run in the middle of being rewritten
            return False
        for tokens in _TOKENS if self.tokens is None else (self.tokens,):
            feed = {entry.name: _example(entry, tokens) for entry in session.get_inputs()}
            try:
                results = session.run(names, feed)
            except Exception:  # as above, or one of few positions
                continue
            break
        else:
            return False
        self.tokens = tokens
        for name, array in (*feed.items(), *zip(names, results, strict=True)):
            if isinstance(array, np.ndarray):
                self._set(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
        return True


def has_tokens(shapes: RuntimeShapes, name: str) -> bool:
    """Whether a value is [batch, tokens, channels], or the same with a row for each token."""
    shape = shapes.get_edge_shape(name)
    if shape is None or shapes.tokens is None or len(shape) not in (2, 3):
        return False
    return math.prod(shape[:-1]) == _BATCH * shapes.tokens


def state_types(model: Any, scratch: Path) -> None:
    """Write the type and rank of every inner value into a model.

    ONNX's own inference stops at ONNX Runtime's operators, which every fused graph has.
    """
    shapes = RuntimeShapes(scratch)
    shapes.update(model)
    stated = {value.name for value in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    for name in (name for node in model.graph.node for name in node.output):
        info = shapes.known_vi_.get(name)
        if info is not None and name not in stated:
            kind = info.type.tensor_type
            sizes = [None] * len(kind.shape.dim)
            model.graph.value_info.append(
                helper.make_tensor_value_info(name, kind.elem_type, sizes)
            )


def _example(entry: Any, tokens: int) -> Any:
    dtype = np.int32 if entry.type == "tensor(int32)" else np.int64
    filled = np.ones if entry.name in ("input_ids", "attention_mask") else np.zeros
    return filled((_BATCH, tokens), dtype=dtype)
