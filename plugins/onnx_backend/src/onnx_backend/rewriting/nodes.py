"""The nodes of a graph: what they are called, take and make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def name_nodes(model: Any) -> None:
    """Give every node without a name that of its result, so that each can be told apart."""
    for node in model.graph.node:
        if not node.name and node.output:
            node.name = node.output[0]


def constants(model: Any) -> dict[str, Any]:
    """The tensors that do not change, by name."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def producers_of(graph: Any) -> dict[str, Any]:
    """Value to the node that makes it."""
    return {name: node for node in graph.node for name in node.output}


def users_of(graph: Any) -> dict[str, list[Any]]:
    """Value to the nodes that take it, or that have a graph inside them which does."""
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in values_of(node):
            users.setdefault(name, []).append(node)
    return users


def values_of(node: Any) -> Iterator[str]:
    """The names of all values a node takes: its inputs, and what graphs inside it take."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from values_of(inner)
