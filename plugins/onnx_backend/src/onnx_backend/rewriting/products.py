"""The products of an encoder graph that have constant weights, and what feeds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_backend.rewriting.gelus import gelu_outputs
from onnx_backend.rewriting.heads import head_nodes
from onnx_backend.rewriting.nodes import constants, producers_of
from onnx_backend.rewriting.values import RuntimeShapes, has_tokens

_NORMS = (
    "LayerNormalization",
    "SkipLayerNormalization",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "RMSNormalization",
)


@dataclass(frozen=True)
class Inputs:
    """Activations, and the products that take them.

    Attributes:
        name: Of the value.
        products: Names of the MatMul or Gemm nodes.
        is_norm: Whether a layer norm makes them.
        is_gelu: Whether GELU makes them: nothing is under -0.17 then.
    """

    name: str
    products: tuple[str, ...]
    is_norm: bool
    is_gelu: bool


def turn_weights(model: Any) -> None:
    """Write weights that are transposed in every run, as a tool may leave them, the other way."""
    known = constants(model)
    for node in list(model.graph.node):
        weight = known.get(node.input[0]) if node.op_type == "Transpose" else None
        if weight is None or len(weight.dims) != 2:
            continue
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [1, 0])
        turned = np.ascontiguousarray(numpy_helper.to_array(weight).transpose(order))
        model.graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        model.graph.node.remove(node)


def find_products(model: Any, scratch: Path) -> list[Inputs]:
    """Every value of all tokens that products with constant weights take, in order.

    Products of `head_nodes` are left out.
    """
    shapes = RuntimeShapes(scratch)
    shapes.update(model)
    known = constants(model)
    heads = set(head_nodes(model.graph))
    groups: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.name in heads or not _multiplies(node):
            continue
        weight = known.get(node.input[1])
        if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        # A head computes from one row a text: too little to gain anything.
        if has_tokens(shapes, node.input[0]):
            groups.setdefault(node.input[0], []).append(node.name)
    producers = producers_of(model.graph)
    gelus = gelu_outputs(model)
    return [
        Inputs(name, tuple(products), _is_norm(name, producers, known), name in gelus)
        for name, products in groups.items()
    ]


def _multiplies(node: Any) -> bool:
    """Whether a node is a plain product, with or without a bias."""
    if node.op_type == "MatMul":
        return True
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA")
    return node.op_type == "Gemm" and plain


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


def weight_of(product: Any, known: Mapping[str, Any]) -> NDArray[np.float32]:
    """The weight of a product, float32 [inputs, outputs]."""
    weight: NDArray[np.float32] = numpy_helper.to_array(known[product.input[1]])
    turned = any(a.name == "transB" and a.i for a in product.attribute)
    return weight.T if turned else weight
