"""The products of an encoder graph that have constant weights, and what feeds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvino_backend.rewriting.heads import head_operations

Node = Any


@dataclass(frozen=True)
class Inputs:
    """Activations, and the products that take them.

    Attributes:
        name: Of the node that makes them.
        products: Names of the MatMul nodes.
        is_norm: Whether a layer norm makes them.
    """

    name: str
    products: tuple[str, ...]
    is_norm: bool


def find_products(graph: Any) -> list[Inputs]:
    """Every [batch, tokens, channels] that products with constant weights take, in order.

    Products of `head_operations` are left out.
    """
    heads = set(head_operations(graph))
    groups: dict[str, tuple[Node, list[str]]] = {}
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul" or weight_of(node) is None:
            continue
        if node.get_friendly_name() in heads:
            continue
        value = node.input_value(0)
        # A head computes from one row a text: too little to gain anything.
        if _rank(value) != 3 or node.get_attributes()["transpose_a"]:
            continue
        made_by = value.get_node()
        if made_by.get_output_size() == 1:
            groups.setdefault(made_by.get_friendly_name(), (made_by, []))[1].append(
                node.get_friendly_name()
            )
    return [
        Inputs(name, tuple(products), _is_norm(node)) for name, (node, products) in groups.items()
    ]


def named_nodes(graph: Any) -> dict[str, Node]:
    """Every node by its name."""
    return {node.get_friendly_name(): node for node in graph.get_ordered_ops()}


def weight_of(product: Node) -> NDArray[np.float32] | None:
    """The constant weight of a product as float32 [inputs, outputs]; None where it has none."""
    weight = constant(product.input_value(1).get_node())
    if weight is None or weight.ndim != 2:
        return None
    return weight.T if product.get_attributes()["transpose_b"] else weight


def constant(node: Node) -> NDArray[np.float32] | None:
    """A constant of floating point, also one that is stored with fewer bits."""
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    if not node.get_element_type().is_real():
        return None
    return np.asarray(node.get_data(), dtype=np.float32)


def _rank(value: Any) -> int | None:
    rank = value.get_partial_shape().rank
    return int(rank.get_length()) if rank.is_static else None


def _is_norm(node: Node) -> bool:
    """Whether a node is the last one of a layer norm, with or without gain and bias.

    Other norms, as of root mean squares, end in a product with a gain as well.
    """
    if node.get_type_name() == "Add" and _has_constant_row(node):
        node = split(node)[0]
    return node.get_type_name() == "MVN" or (
        node.get_type_name() == "Multiply" and _has_constant_row(node)
    )


def _has_constant_row(node: Node) -> bool:
    """Whether one operand is a constant with a value for each channel."""
    _, values = split(node)
    channels = node.output(0).get_partial_shape()[2]
    return values is not None and channels.is_static and values.size == channels.get_length()


def split(node: Node) -> tuple[Node | None, NDArray[np.float32] | None]:
    """The operands of a node with one constant: the other one's node, and the constant."""
    if node.get_input_size() != 2:
        return None, None
    for port in (1, 0):
        found = constant(node.input_value(port).get_node())
        if found is not None:
            return node.input_value(1 - port).get_node(), found
    return None, None
