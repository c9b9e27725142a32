"""The products of an encoder graph that have constant weights, and what feeds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_backend.rewriting.values import RuntimeShapes

_NORMS = (
    "LayerNormalization",
    "SkipLayerNormalization",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "RMSNormalization",
)
_GELUS = ("Gelu", "FastGelu", "BiasGelu")
#: How many products and sums follow the error function in a GELU that is written out.
_GELU_STEPS = 4


@dataclass(frozen=True)
class Inputs:
    """Activations, and the products that take them.

    Attributes:
        name: Of the value.
        products: Names of the MatMul nodes.
        is_norm: Whether a layer norm makes them.
        is_gelu: Whether GELU makes them: nothing is under -0.17 then.
    """

    name: str
    products: tuple[str, ...]
    is_norm: bool
    is_gelu: bool


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


def find_products(model: Any, scratch: Path) -> list[Inputs]:
    """Every [batch, tokens, channels] that products with constant weights take, in order."""
    shapes = RuntimeShapes(scratch)
    shapes.update(model)
    known = constants(model)
    groups: dict[str, list[str]] = {}
    for node in model.graph.node:
        weight = known.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        # A head computes from one row a text: too little to gain anything.
        if len(shapes.get_edge_shape(node.input[0]) or ()) == 3:
            groups.setdefault(node.input[0], []).append(node.name)
    producers = {name: node for node in model.graph.node for name in node.output}
    gelus = _gelu_outputs(model)
    return [
        Inputs(name, tuple(products), _is_norm(name, producers, known), name in gelus)
        for name, products in groups.items()
    ]


def _is_norm(name: str, producers: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a layer norm makes a value: as one operator, or written out up to gain and bias."""
    node = producers.get(name)
    if node is None:
        return False
    if node.op_type in _NORMS:
        return bool(node.output[0] == name)
    if node.op_type == "Add" and (before := _other_than_row(node, known)) is not None:
        node = producers.get(before)
    return node is not None and node.op_type == "Mul" and _other_than_row(node, known) is not None


def _other_than_row(node: Any, known: Mapping[str, Any]) -> str | None:
    """The operand beside a constant with a value for each channel; None where there is none."""
    for place in (0, 1):
        tensor = known.get(node.input[place])
        if tensor is not None and len(tensor.dims) == 1 and tensor.dims[0] > 1:
            return str(node.input[1 - place])
    return None


def _gelu_outputs(model: Any) -> set[str]:
    """Values that GELU makes: as one operator, or written out with the error function."""
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = set()
    for node in model.graph.node:
        if node.op_type in _GELUS:
            found.add(node.output[0])
        elif node.op_type == "Erf":
            value = node.output[0]
            for _ in range(_GELU_STEPS):
                after = users.get(value, [])
                if len(after) != 1 or after[0].op_type not in ("Add", "Mul"):
                    break
                value = after[0].output[0]
            found.add(value)
    return found


def weight_of(product: Any, known: Mapping[str, Any]) -> NDArray[np.float32]:
    """The weight of a product, float32 [inputs, outputs]."""
    weight: NDArray[np.float32] = numpy_helper.to_array(known[product.input[1]])
    return weight
