"""An OpenVINO graph: reading its files, and telling its inputs and outputs apart by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core import Architecture
from core.errors import ModelFormatError, UnsupportedOperation
from core.toolkit import (
    GRAPH_INPUTS,
    SENTENCE_OUTPUTS,
    GraphOutput,
    choose_logits,
    choose_outputs,
    choose_vectors,
)
from openvino_backend.imports import openvino

SENTENCE_OUTPUT = SENTENCE_OUTPUTS[0]


def input_names(graph: openvino.Model, file_name: str) -> tuple[str, ...]:
    """Which of `GRAPH_INPUTS` each input is, in the graph's order.

    Raises:
        UnsupportedOperation: An input a text encoder does not have.
    """
    found = []
    for port in graph.inputs:
        known = [name for name in GRAPH_INPUTS if name in port.get_names()]
        if not known:
            names = ", ".join(sorted(port.get_names())) or "an input without a name"
            raise UnsupportedOperation(
                f"{file_name} wants {names}; core feeds {', '.join(GRAPH_INPUTS)}. Generators with "
                "a key-value cache and models of other data are not encoders: export the model as "
                "a feature extractor."
            )
        found.append(known[0])
    return tuple(found)


def outputs(graph: openvino.Model) -> tuple[Any | None, Any | None]:
    """The outputs [batch, tokens, hidden] and [batch, dimension]; None for what is missing."""
    tokens, sentence = choose_outputs(described(graph))
    return (
        None if tokens is None else graph.outputs[tokens],
        None if sentence is None else graph.outputs[sentence],
    )


def vector_outputs(
    graph: openvino.Model, architecture: Architecture
) -> tuple[Any | None, Any | None]:
    """The outputs [batch, tokens, hidden] and [batch, tokens, dimension] of a multi-vector model;
    None for what is missing."""
    tokens, vectors = choose_vectors(architecture, [_describe(port) for port in graph.outputs])
    return (
        None if tokens is None else graph.outputs[tokens],
        None if vectors is None else graph.outputs[vectors],
    )


def logits_output(graph: openvino.Model, file_name: str) -> Any:
    """The output of a head.

    Raises:
        ModelFormatError: There is none.
    """
    position = choose_logits(described(graph))
    if position is None:
        names = ", ".join(sorted(n for port in graph.outputs for n in port.get_names()))
        raise ModelFormatError(
            f"{file_name} gives {names or 'outputs without names'}, and not the logits [batch, "
            "labels] of pairs of texts. It was exported without the reranker's head: export the "
            "model again with core."
        )
    return graph.outputs[position]


def rank(port: Any) -> int | None:
    """How many sizes an output has, where the graph states it."""
    return _describe(port).rank


def width(port: Any) -> int | None:
    """The last size of an output, where the graph states it."""
    return _describe(port).width


def described(graph: openvino.Model) -> list[GraphOutput]:
    """Every output, in the graph's order."""
    return [_describe(port) for port in graph.outputs]


def _describe(port: Any) -> GraphOutput:
    shape = port.get_partial_shape()
    rank = shape.rank.get_length() if shape.rank.is_static else None
    last = shape[rank - 1] if rank else None
    known = last.get_length() if last is not None and last.is_static else None
    return GraphOutput(tuple(port.get_names()), rank, known)


# What lies between input ids, or a table's stored numbers, and the operation that looks them up.
_PASSING = ("Convert", "Multiply", "Subtract", "Reshape", "FakeQuantize", "FakeConvert")


def vocabulary(graph: openvino.Model) -> int | None:
    """Rows of the table that input ids are looked up in; None where none is found."""
    found = [port for port in graph.inputs if "input_ids" in port.get_names()]
    values = list(found[:1])
    for value in values:  # which grows
        for target in value.get_target_inputs():
            node = target.get_node()
            if node.get_type_name() in ("Convert", "Minimum", "Maximum"):
                values.append(node.output(0))
            elif node.get_type_name() == "Gather" and target.get_index() == 1:
                rows = _table_rows(node)
                if rows is not None:
                    return rows
    return None


def _table_rows(gather: Any) -> int | None:
    axis = gather.input_value(2).get_node()
    data = gather.input_value(0)
    shape = data.get_partial_shape()
    node = data.get_node()
    while node.get_type_name() in _PASSING:
        node = node.input_value(0).get_node()
    known = shape.rank.is_static and shape.rank.get_length() == 2 and shape[0].is_static
    if node.get_type_name() != "Constant" or axis.get_type_name() != "Constant" or not known:
        return None
    return int(shape[0].get_length()) if int(axis.get_data().reshape(-1)[0]) == 0 else None


def only(graph: openvino.Model, output: Any) -> openvino.Model:
    """The part of a graph that computes one of its outputs; weights are shared."""
    if len(graph.outputs) == 1:
        return graph
    return joined(graph, [output])


def joined(graph: openvino.Model, outputs: Iterable[Any]) -> openvino.Model:
    """What computes these outputs, of this graph or of others that share its nodes and weights."""
    values = [port.get_node().input_value(0) for port in outputs]
    return openvino.Model(values, graph.get_parameters(), graph.get_friendly_name())


def graph_precision(graph: openvino.Model) -> str:
    """How the weights are stored: `"fp32"`, `"fp16"`, `"int8"` or `"int4"`."""
    kinds = {
        node.get_element_type().get_type_name()
        for node in graph.get_ops()
        if node.get_type_name() == "Constant" and _is_matrix(node)
    }
    for stored, precision in (
        ({"u4", "i4", "nf4"}, "int4"),
        ({"u8", "i8"}, "int8"),
        ({"f16"}, "fp16"),
    ):
        if kinds & stored:
            return precision
    return "fp32"


def _is_matrix(constant: Any) -> bool:
    """Whether it has rows and columns, as weights have; scales and zero points have not."""
    sizes: Iterable[int] = constant.get_output_shape(0)
    return sum(size > 1 for size in sizes) > 1


def quantizes_activations(graph: openvino.Model) -> bool:
    """Whether the graph computes in int8, as static quantization leaves it."""
    return any(node.get_type_name() == "FakeQuantize" for node in graph.get_ops())
