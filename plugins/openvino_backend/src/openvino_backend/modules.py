"""Pooling and the modules after it as part of the graph, so that [batch, dimension] comes out.

The modules write that part themselves; `OpenVINOBuilder` gives them OpenVINO's operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UnsupportedOperation
from core.toolkit import (
    VECTOR_OUTPUTS,
    Elementwise,
    GraphBuilder,
    Module,
    Reduction,
    pools_prompt,
)
from core.toolkit import append_modules as write_modules
from core.toolkit import append_token_modules as write_token_modules
from openvino_backend.graph import SENTENCE_OUTPUT
from openvino_backend.imports import openvino

ops = openvino.opset13

Node = Any
Graph = Any


def append_modules(graph: Graph, modules: Sequence[Module]) -> Graph | None:
    """The graph of token embeddings with the modules behind it; weights are shared.

    None where that cannot be done: no attention mask among the inputs, prompts left out of
    pooling (their length is known only per call), or a module that has no operation here.
    """
    masks = [port for port in graph.inputs if "attention_mask" in port.get_names()]
    if not masks or not pools_prompt(modules):
        return None
    tokens = ops.convert(graph.outputs[0].get_node().input_value(0), "f32")
    mask = ops.convert(masks[0].get_node().output(0), "f32")
    try:
        pooled = write_modules(OpenVINOBuilder(), modules, tokens, mask, mask)
    except UnsupportedOperation:
        return None
    result = ops.result(pooled, name=SENTENCE_OUTPUT)
    fused = openvino.Model([result], graph.get_parameters(), graph.get_friendly_name())
    fused.outputs[0].get_tensor().set_names({SENTENCE_OUTPUT})
    return fused


def append_token_modules(graph: Graph, modules: Sequence[Module]) -> Graph:
    """The graph of token embeddings with modules of those behind it; weights are shared.

    Raises:
        UnsupportedOperation: One of them has no operation here.
    """
    tokens = ops.convert(graph.outputs[0].get_node().input_value(0), "f32")
    vectors = write_token_modules(OpenVINOBuilder(), modules, tokens)
    result = ops.result(vectors, name=VECTOR_OUTPUTS[0])
    fused = openvino.Model([result], graph.get_parameters(), graph.get_friendly_name())
    fused.outputs[0].get_tensor().set_names({VECTOR_OUTPUTS[0]})
    return fused


class OpenVINOBuilder(GraphBuilder):
    """Makes nodes; a value is a node, or one output of it."""

    def constant(self, array: NDArray[Any]) -> Node:
        return ops.constant(np.asarray(array, order="C"))

    def elementwise(self, operation: Elementwise, *values: Node) -> Node:
        return getattr(ops, "select" if operation == "where" else operation)(*values)

    def matmul(self, left: Node, right: Node) -> Node:
        return ops.matmul(left, right, False, False)

    def reduce(self, operation: Reduction, value: Node, axis: int, keepdims: bool) -> Node:
        return getattr(ops, f"reduce_{operation}")(value, self._axes(axis), keepdims)

    def first_argmax(self, value: Node, axis: int) -> Node:
        # A stable search finds the first of several equals.
        found = ops.topk(value, np.int64(1), axis, "max", "value", stable=True)
        return self.squeeze(found.output(1), axis)

    def cumsum(self, value: Node, axis: int) -> Node:
        return ops.cum_sum(value, np.int64(axis))

    def rows_at(self, values: Node, index: Node) -> Node:
        return ops.gather(values, index, np.int64(1), 1)

    def concatenate(self, values: list[Node], axis: int) -> Node:
        return ops.concat(values, axis)

    def unsqueeze(self, value: Node, axis: int) -> Node:
        return ops.unsqueeze(value, self._axes(axis))

    def squeeze(self, value: Node, axis: int) -> Node:
        return ops.squeeze(value, self._axes(axis))

    def _axes(self, axis: int) -> Node:
        return ops.constant(np.array([axis], dtype=np.int64))
