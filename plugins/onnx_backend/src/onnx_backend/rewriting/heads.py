"""The nodes of a graph that only the heads of sparse and multi-vector embeddings need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.toolkit import HEAD_OUTPUTS


def head_nodes(path: Path) -> list[str]:
    """Names of the nodes between the token embeddings and what the heads of a file give.

    Int8 leaves them alone: they are a few thousandths of the arithmetic, and a token's weight is
    one number, which rounding hits in full.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    outputs = {output.name for output in graph.output}
    heads = outputs & set(HEAD_OUTPUTS.values())
    if not heads:
        return []
    shared = _needed(graph, outputs - heads)
    return [node.name for node in _needed(graph, heads).values() if node.name not in shared]


def _needed(graph: Any, values: Iterable[str]) -> dict[str, Any]:
    """Name to node of all that these values are computed by."""
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, Any] = {}
    waiting = list(values)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found[node.name] = node
            waiting.extend(node.input)
    return found
