"""What a session takes and gives: matched to a batch's arrays and to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Architecture, TokenBatch
from core.errors import ModelFormatError
from core.toolkit import (
    GRAPH_INPUTS,
    GraphOutput,
    Scoring,
    choose_logits,
    choose_outputs,
    choose_vectors,
)

_DTYPES: dict[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs of an encoder graph.

    Attributes:
        inputs: Name to dtype, of `GRAPH_INPUTS`.
        outputs: Every output's name.
        tokens: The output that is [batch, tokens, hidden], if there is one.
        sentence: The output that is a ready [batch, dimension], if there is one.
        width: Of the sentence output, where the graph states it.
        token_width: Of the token output, where the graph states it.
        logits: The output of a head, where the graph was read as one with a head.
        labels: Of that output, its last size, where it is [batch, labels] and the graph states it.
        vectors: The output that is a multi-vector model's finished [batch, tokens, dimension], if
            there is one.
        vector_width: Of it, where the graph states it.
        described: All outputs, in the order of `outputs`.
    """

    inputs: dict[str, type[np.integer[Any]]]
    outputs: tuple[str, ...]
    tokens: str | None
    sentence: str | None
    width: int | None
    token_width: int | None
    logits: str | None = None
    labels: int | None = None
    vectors: str | None = None
    vector_width: int | None = None
    described: tuple[GraphOutput, ...] = ()

    def feed(self, batch: TokenBatch) -> dict[str, NDArray[np.integer[Any]]]:
        """The arrays of a batch under the graph's names."""
        return {
            name: getattr(batch, name).astype(dtype, copy=False)
            for name, dtype in self.inputs.items()
        }


def describe_graph(session: Any, name: str, architecture: Architecture) -> Graph:
    """Match a session's inputs and outputs with what the architecture reads of them; `name` is the
    file's in messages.

    Raises:
        ModelFormatError: It takes or gives something an encoder does not, or only one shape.
    """
    inputs = {}
    for entry in session.get_inputs():
        if entry.name not in GRAPH_INPUTS or entry.type not in _DTYPES:
            raise ModelFormatError(
                f"{name} takes the input {entry.name!r} ({entry.type}), which an encoder of text "
                f"does not; known are {', '.join(GRAPH_INPUTS)}. Export the model again with core."
            )
        if any(isinstance(size, int) for size in entry.shape or ()):
            raise ModelFormatError(
                f"{name} takes {entry.name!r} only in the shape {list(entry.shape)}. Export it "
                "again with dynamic batch and sequence axes, as core does."
            )
        inputs[entry.name] = _DTYPES[entry.type]
    outputs = {entry.name: list(entry.shape or ()) for entry in session.get_outputs()}
    found = [
        GraphOutput((name,), len(shape) or None, _last(shape)) for name, shape in outputs.items()
    ]
    if isinstance(architecture.head, Scoring):
        return _with_head(inputs, found, name)
    if architecture.kind == "multi_vector":
        return _with_vectors(inputs, found, name, architecture)
    tokens, sentence = choose_outputs(found)
    if "input_ids" not in inputs or (tokens is None and sentence is None):
        raise ModelFormatError(
            f"{name} takes {', '.join(inputs)} and gives {', '.join(outputs)}: neither token "
            "embeddings [batch, tokens, hidden] nor sentence embeddings [batch, dimension] of "
            "input_ids. Load the file of the encoder itself. If an output [batch, dimension] is "
            "the sentence embedding, rename it to sentence_embedding."
        )
    return Graph(
        inputs,
        tuple(outputs),
        None if tokens is None else found[tokens].names[0],
        None if sentence is None else found[sentence].names[0],
        None if sentence is None else found[sentence].width,
        None if tokens is None else found[tokens].width,
        described=tuple(found),
    )


def _with_head(
    inputs: dict[str, type[np.integer[Any]]], outputs: list[GraphOutput], name: str
) -> Graph:
    names = tuple(output.names[0] for output in outputs)
    position = choose_logits(outputs)
    if "input_ids" not in inputs or position is None:
        raise ModelFormatError(
            f"{name} takes {', '.join(inputs)} and gives {', '.join(names)}, and not the logits "
            "[batch, labels] of pairs of texts. It was exported without the reranker's head: "
            "export the model again with core."
        )
    found = outputs[position]
    labels = found.width if found.rank == 2 else None
    return Graph(inputs, names, None, None, None, None, found.names[0], labels)


def _with_vectors(
    inputs: dict[str, type[np.integer[Any]]],
    outputs: list[GraphOutput],
    name: str,
    architecture: Architecture,
) -> Graph:
    names = tuple(output.names[0] for output in outputs)
    tokens, vectors = choose_vectors(architecture, outputs)
    if "input_ids" not in inputs or (tokens is None and vectors is None):
        raise ModelFormatError(
            f"{name} takes {', '.join(inputs)} and gives {', '.join(names)}: neither a vector for "
            "each token [batch, tokens, dimension] nor token embeddings [batch, tokens, hidden] of "
            "input_ids. Export the model again with core."
        )
    return Graph(
        inputs,
        names,
        None if tokens is None else names[tokens],
        None,
        None,
        None if tokens is None else outputs[tokens].width,
        vectors=None if vectors is None else names[vectors],
        vector_width=None if vectors is None else outputs[vectors].width,
    )


def _last(shape: list[Any]) -> int | None:
    """The last size of an output, where the graph states it."""
    return shape[-1] if shape and isinstance(shape[-1], int) else None
