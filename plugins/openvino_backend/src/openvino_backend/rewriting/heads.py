"""The operations of a graph that only heads need: sparse and multi-vector ones, and scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.toolkit import HEAD_OUTPUTS


def head_operations(graph: Any) -> list[str]:
    """Names of the operations between the token embeddings and what the heads of a graph give, and
    of products that take one token of each text, as a language model's score does.

    Int8 leaves them alone: they are a few thousandths of the arithmetic, and a token's weight is
    one number, which rounding hits in full.
    """
    return [*_of_other_outputs(graph), *_of_one_token(graph)]


def _of_one_token(graph: Any) -> list[str]:
    products = [node for node in graph.get_ops() if node.get_type_name() == "MatMul"]
    return [node.get_friendly_name() for node in products if _takes_one_token(node)]


def _takes_one_token(product: Any) -> bool:
    shape = list(product.get_input_partial_shape(0))
    return len(shape) == 3 and shape[1].is_static and shape[1].get_length() == 1


def _of_other_outputs(graph: Any) -> list[str]:
    names = set(HEAD_OUTPUTS.values())
    heads = [port for port in graph.outputs if port.get_names() & names]
    if not heads:
        return []
    shared = _needed(port for port in graph.outputs if not port.get_names() & names)
    own = _needed(heads)
    return [
        name
        for name, node in own.items()
        if name not in shared and node.get_type_name() not in ("Constant", "Result", "Parameter")
    ]


def _needed(ports: Iterable[Any]) -> dict[str, Any]:
    """Name to node of all that these outputs are computed by."""
    found: dict[str, Any] = {}
    waiting = [port.get_node() for port in ports]
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name not in found:
            found[name] = node
            waiting.extend(value.get_node() for value in node.input_values())
    return found
