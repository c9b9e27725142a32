"""The products of an encoder graph that have constant weights, and what feeds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_backend.rewriting.heads import head_nodes
from onnx_backend.rewriting.values import RuntimeShapes, has_tokens

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
#: What it multiplies its input by, inside the error function and outside.
_GELU_INNER, _GELU_OUTER = math.sqrt(0.5), 0.5
_GELU_TOLERANCE = 1e-3


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


def name_nodes(model: Any) -> None:
    """Give every node without a name that of its result, so that each can be told apart."""
    for node in model.graph.node:
        if not node.name and node.output:
            node.name = node.output[0]


def values_of(node: Any) -> Iterator[str]:
    """The names of all values a node takes: its inputs, and what graphs inside it take."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from values_of(inner)


def constants(model: Any) -> dict[str, Any]:
    """The tensors that do not change, by name."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


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
    producers = {name: node for node in model.graph.node for name in node.output}
    gelus = _gelu_outputs(model, known)
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


def _gelu_outputs(model: Any, known: Mapping[str, Any]) -> set[str]:
    """Values that GELU makes: as one operator, or written out as x * (1 + erf(x / sqrt 2)) / 2."""
    users: dict[str, list[Any]] = {}
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for name in values_of(node):
            users.setdefault(name, []).append(node)

    def number(name: str) -> float | None:
        tensor = known.get(name)
        if tensor is None or math.prod(tensor.dims) != 1:
            return None
        return float(numpy_helper.to_array(tensor).item())

    def scaled(name: str) -> tuple[str, float]:
        """What a value is a number times of, and the number."""
        node = producers.get(name)
        if node is not None and node.op_type in ("Mul", "Div"):
            first, second = (number(operand) for operand in node.input)
            if second:
                return node.input[0], second if node.op_type == "Mul" else 1 / second
            if first and node.op_type == "Mul":
                return node.input[1], first
        return name, 1.0

    def follow(erf: Any) -> str | None:
        """The result of the GELU that an error function is in: nothing else is multiplied in."""
        x, inner = scaled(erf.input[0])
        if not math.isclose(inner, _GELU_INNER, rel_tol=_GELU_TOLERANCE):
            return None
        value, factor, times_x = erf.output[0], 1.0, False
        for _ in range(_GELU_STEPS):
            after = users.get(value, [])
            if len(after) != 1 or after[0].op_type not in ("Add", "Mul"):
                return None
            other = next(n for n in after[0].input if n != value)
            constant = number(other)
            if after[0].op_type == "Add":
                if constant != 1:
                    return None
            elif constant is not None:
                factor *= constant
            else:
                # A gate multiplies by something else, of any sign.
                base, scale = scaled(other)
                if base != x or times_x:
                    return None
                factor, times_x = factor * scale, True
            value = after[0].output[0]
            if times_x and math.isclose(factor, _GELU_OUTER, rel_tol=_GELU_TOLERANCE):
                return str(value)
        return None

    found = {node.output[0] for node in model.graph.node if node.op_type in _GELUS}
    written_out = (follow(node) for node in model.graph.node if node.op_type == "Erf")
    return found | {value for value in written_out if value is not None}


def weight_of(product: Any, known: Mapping[str, Any]) -> NDArray[np.float32]:
    """The weight of a product, float32 [inputs, outputs]."""
    weight: NDArray[np.float32] = numpy_helper.to_array(known[product.input[1]])
    turned = any(a.name == "transB" and a.i for a in product.attribute)
    return weight.T if turned else weight
