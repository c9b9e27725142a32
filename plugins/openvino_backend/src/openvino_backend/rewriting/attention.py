"""Attention that sums in one order, however wide a batch is.

OpenVINO's kernels sum over the keys in blocks, and what is left of the last block in another order:
a text that is padded to another width differs in the last bit. Where activations are rounded to
int8, such a bit sends a value to the next step, and some layers on, that has grown to the size of
all the rounding. Keys and values are therefore padded to whole blocks, masked like other padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openvino_backend.imports import openvino

ops = openvino.opset13

Node = Any

#: Keys in a block: float32 values in the widest vector there is.
_BLOCK = 16


def pad_keys(graph: Any) -> int:
    """Pad the keys and values of every attention in the graph; returns how many there were."""
    count = 0
    missing: dict[tuple[str, int], Any] = {}
    masks: dict[tuple[str, int], Any] = {}
    for node in graph.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "ScaledDotProductAttention" and node.get_input_size() > 3:
            mask = node.input_value(3)
            if not _is_wide(mask):
                continue
            place = _place(mask)
            if place not in missing:
                missing[place] = _missing(mask)
                masks[place] = _padded(mask, _last(mask), missing[place], _masked(mask))
            for number in (1, 2):
                _pad_before_transposing(node.input(number), 2, missing[place])
            node.input(3).replace_source_output(masks[place])
            count += 1
        elif kind == "Softmax" and (product := _weighted_sum(node)) is not None:
            scores = node.input_value(0)
            more = _missing(scores)
            port = product.input(1)
            axis = _last(port.get_source_output()) - 1
            if product.get_attributes()["transpose_b"]:
                axis += 1
            _pad_before_transposing(port, axis, more)
            node.input(0).replace_source_output(
                _padded(scores, _last(scores), more, np.float32(-np.inf))
            )
            count += 1
    graph.validate_nodes_and_infer_types()
    return count


def _weighted_sum(softmax: Node) -> Node | None:
    """The product of attention's weights and the values; None where a softmax is something else."""
    scores = softmax.input_value(0)
    targets = list(softmax.output(0).get_target_inputs())
    if len(targets) != 1 or not _is_wide(scores) or _last(scores) != 3:
        return None
    product = targets[0].get_node()
    attributes = product.get_attributes()
    if product.get_type_name() != "MatMul" or targets[0].get_index() != 0:
        return None
    if attributes["transpose_a"] or product.input_value(1).get_node().get_type_name() == "Constant":
        return None
    axis = softmax.get_attributes()["axis"]
    return product if axis in (-1, 3) else None


def _is_wide(value: Any) -> bool:
    """Whether the last size of a value is that of the batch."""
    shape = value.get_partial_shape()
    return bool(shape.rank.is_static and shape[shape.rank.get_length() - 1].is_dynamic)


def _last(value: Any) -> int:
    return int(value.get_partial_shape().rank.get_length()) - 1


def _place(value: Any) -> tuple[str, int]:
    return value.get_node().get_friendly_name(), value.get_index()


def _masked(mask: Any) -> Any:
    boolean = mask.get_element_type().get_type_name() == "boolean"
    return np.array(False) if boolean else np.float32(-np.inf)


def _missing(value: Any) -> Node:
    """How many keys the last block lacks, int64 [1]."""
    size = ops.gather(ops.shape_of(value, "i64"), _numbers(_last(value)), np.int64(0))
    over = ops.mod(size, _numbers(_BLOCK))
    return ops.mod(ops.subtract(_numbers(_BLOCK), over), _numbers(_BLOCK))


def _padded(value: Any, axis: int, count: Node, filling: Any) -> Any:
    """The value with `count` more entries at the end of an axis."""
    rank = _last(value) + 1
    after = [_numbers(0) for _ in range(rank)]
    after[axis] = count
    start = ops.constant(np.zeros(rank, dtype=np.int64))
    constant = ops.constant(filling)
    return ops.pad(value, start, ops.concat(after, 0), "constant", constant).output(0)


def _pad_before_transposing(port: Any, axis: int, count: Node) -> None:
    """Pad what a port takes, where it is made: OpenVINO fuses attention with transposes before it.

    Args:
        axis: Of what the port takes.
    """
    while True:
        node = port.get_source_output().get_node()
        alone = len(node.output(0).get_target_inputs()) == 1
        if node.get_type_name() != "Transpose" or not alone:
            break
        order = node.input_value(1).get_node()
        if order.get_type_name() != "Constant":
            break
        axis, port = int(order.get_data()[axis]), node.input(0)
    value = port.get_source_output()
    port.replace_source_output(_padded(value, axis, count, np.float32(0)))


def _numbers(*values: int) -> Node:
    return ops.constant(np.array(values, dtype=np.int64))
