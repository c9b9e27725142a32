"""What a session takes and gives: matched to a batch's arrays and to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import TokenBatch
from core.errors import ModelFormatError

KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
#: Names exporters give to [batch, tokens, hidden], most usual first.
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings", "hidden_states", "output_0")
SENTENCE_OUTPUTS = ("sentence_embedding", "sentence_embeddings", "embeddings", "text_embeds")

_DTYPES: dict[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs of an encoder graph.

    Attributes:
        inputs: Name to dtype, of `KNOWN_INPUTS`.
        outputs: Every output's name.
        tokens: The output that is [batch, tokens, hidden], if there is one.
        sentence: The output that is a ready [batch, dimension], if there is one.
        width: Of the sentence output, where the graph states it.
        token_width: Of the token output, where the graph states it.
    """

    inputs: dict[str, type[np.integer[Any]]]
    outputs: tuple[str, ...]
    tokens: str | None
    sentence: str | None
    width: int | None
    token_width: int | None

    def feed(self, batch: TokenBatch) -> dict[str, NDArray[np.integer[Any]]]:
        """The arrays of a batch under the graph's names."""
        return {
            name: getattr(batch, name).astype(dtype, copy=False)
            for name, dtype in self.inputs.items()
        }


def describe_graph(session: Any, name: str) -> Graph:
    """Match a session's inputs and outputs; `name` is its file's in messages.

    Raises:
        ModelFormatError: It takes or gives something an encoder does not, or only one shape.
    """
    inputs = {}
    for entry in session.get_inputs():
        if entry.name not in KNOWN_INPUTS or entry.type not in _DTYPES:
            raise ModelFormatError(
                f"{name} takes the input {entry.name!r} ({entry.type}), which an encoder of text "
                f"does not; known are {', '.join(KNOWN_INPUTS)}. Export the model again with core."
            )
        if any(isinstance(size, int) for size in entry.shape or ()):
            raise ModelFormatError(
                f"{name} takes {entry.name!r} only in the shape {list(entry.shape)}. Export it "
                "again with dynamic batch and sequence axes, as core does."
            )
        inputs[entry.name] = _DTYPES[entry.type]
    if "attention_mask" not in inputs and "input_ids" in inputs:
        raise ModelFormatError(
            f"{name} takes {', '.join(inputs)} and no attention_mask: padding would count as text, "
            "and an embedding depend on the texts beside it. Export the model again with core."
        )
    outputs = {entry.name: list(entry.shape or ()) for entry in session.get_outputs()}
    tokens = _choose(outputs, TOKEN_OUTPUTS, rank=3)
    sentence = _choose(outputs, SENTENCE_OUTPUTS, rank=2)
    if tokens is not None and sentence not in SENTENCE_OUTPUTS[:2]:
        sentence = None  # a pooler's output or the like, not the sentence's embedding
    if "input_ids" not in inputs or (tokens is None and sentence is None):
        raise ModelFormatError(
            f"{name} takes {', '.join(inputs)} and gives {', '.join(outputs)}: neither token "
            "embeddings [batch, tokens, hidden] nor sentence embeddings [batch, dimension] of "
            "input_ids. Load the file of the encoder itself."
        )
    widths = [_width(outputs, output) for output in (sentence, tokens)]
    return Graph(inputs, tuple(outputs), tokens, sentence, *widths)


def _width(outputs: dict[str, list[Any]], name: str | None) -> int | None:
    """The last size of an output, where the graph states it."""
    last = outputs[name][-1] if name is not None and outputs[name] else None
    return last if isinstance(last, int) else None


def _choose(outputs: dict[str, list[Any]], usual: tuple[str, ...], rank: int) -> str | None:
    """A usual name of the right or unstated rank, else the first output of that rank."""
    for name in usual:
        if name in outputs and len(outputs[name]) in (0, rank):
            return name
    return next((name for name, shape in outputs.items() if len(shape) == rank), None)
