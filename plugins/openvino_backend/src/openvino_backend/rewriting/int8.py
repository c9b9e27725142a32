"""Products in int8: weights rounded once, inputs by a range from calibration or as they come.

Weights are constants in int8, multiplied by a scale for each output, as nncf and Optimum store
them. Inputs with a `FakeQuantize` in front are rounded in one step for all texts (static); of the
others OpenVINO rounds each token by itself, where the processor multiplies int8 (dynamic).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.toolkit import ChannelRanges, WeightRounder, round_weights, smoothing_factors
from openvino_backend.imports import openvino
from openvino_backend.rewriting.products import Inputs, constant, named_nodes, split, weight_of

ops = openvino.opset13

Node = Any

_STEPS = 256
#: Smaller tables, of positions and token types, stay as they are: every token of every text has one
#: of their few rows, and the file is hardly smaller without.
_LEAST_TABLE_ROWS = 1_000


def to_int8(
    graph: Any,
    inputs: Sequence[Inputs],
    ranges: Mapping[str, ChannelRanges],
    rounder: WeightRounder,
    *,
    static: Collection[str],
    kept: Collection[str] = (),
) -> Any:
    """A copy of the graph that multiplies in int8; what layer norms make is smoothed first.

    Args:
        ranges: Of the inputs, by name; those without any are neither smoothed nor static.
        rounder: Of the weights.
        static: Names of inputs that are rounded by their range.
        kept: Products that stay in floating point.
    """
    copy = graph.clone()
    nodes = named_nodes(copy)
    for entry in inputs:
        products = [nodes[name] for name in entry.products if name not in kept]
        if products:
            found = ranges.get(entry.name)
            _round(nodes, entry, products, found, rounder, is_static=entry.name in static)
    for node in nodes.values():
        if node.get_type_name() == "Gather":
            _round_table(node)
    copy.validate_nodes_and_infer_types()
    return copy


def _round(
    nodes: Mapping[str, Node],
    entry: Inputs,
    products: Sequence[Node],
    ranges: ChannelRanges | None,
    rounder: WeightRounder,
    *,
    is_static: bool,
) -> None:
    weights = [weight_of(product) for product in products]
    value, factors = nodes[entry.name].output(0), None
    if entry.is_norm and ranges is not None:
        factors = smoothing_factors(ranges.largest, [w for w in weights if w is not None])
        value = _divided(nodes[entry.name], factors)
    if is_static and ranges is not None:
        low, high = (np.float32(bound) for bound in ranges.bounds(factors))
        value = ops.fake_quantize(value, low, high, low, high, _STEPS).output(0)
    for product, weight in zip(products, weights, strict=True):
        assert weight is not None
        name = product.get_friendly_name()
        integers, scale = rounder.round(name, entry.name, weight, factors)
        if not product.get_attributes()["transpose_b"]:
            rounded = _stored(integers, scale[None, :])
        else:
            rounded = _stored(np.ascontiguousarray(integers.T), scale[:, None])
        product.input(0).replace_source_output(value)
        product.input(1).replace_source_output(rounded.output(0))


def _divided(node: Node, factors: NDArray[np.float32]) -> Any:
    """What a layer norm makes, divided by the factors: in its gain and bias, where it has them."""
    before, values = split(node)
    if before is None or values is None:
        return ops.multiply(node, ops.constant((1 / factors)[None, None, :])).output(0)
    row = ops.constant(values / factors)
    if node.get_type_name() == "Add":
        return ops.add(_divided(before, factors), row).output(0)
    return ops.multiply(before, row).output(0)


def _round_table(gather: Node) -> None:
    """Store the rows of a large table of embeddings in int8, with a scale for each."""
    table = constant(gather.input_value(0).get_node())
    if table is None or table.ndim != 2 or len(table) < _LEAST_TABLE_ROWS:
        return
    integers, scale = round_weights(table.T)
    rounded = _stored(np.ascontiguousarray(integers.T), scale[:, None])
    gather.input(0).replace_source_output(rounded.output(0))


def _stored(integers: NDArray[np.int8], scale: NDArray[np.float32]) -> Node:
    return ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scale))
