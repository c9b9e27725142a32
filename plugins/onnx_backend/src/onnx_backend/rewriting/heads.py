"""The nodes of a graph that only the heads of sparse and multi-vector embeddings need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.toolkit import HEAD_OUTPUTS
from onnx_backend.rewriting.nodes import producers_of


def head_nodes(graph: Any) -> list[str]:
    """Names of the nodes between the token embeddings and what the heads of a graph give.

    Int8 leaves them alone: they are a few thousandths of the arithmetic, and a token's weight is
    one number, which rounding hits in full.
    """
    outputs = {output.name for output in graph.output}
    heads = outputs & set(HEAD_OUTPUTS.values())
    if not heads:
        return []
    shared = _needed(graph, outputs - heads)
    own = _needed(graph, heads)
    return [node.name for value, node in own.items() if node.name and value not in shared]


def _needed(graph: Any, values: Iterable[str]) -> dict[str, Any]:
    """The nodes that these values are computed by, by the name of their first result."""
    makers = producers_of(graph)
    found: dict[str, Any] = {}
    waiting = list(values)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.output[0] not in found:
            found[node.output[0]] = node
            waiting.extend(node.input)
    return found
