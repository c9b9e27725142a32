"""What the graph of an encoder takes and gives: one rule for every runtime that reads graphs.

Names are those that Optimum, sentence-transformers, transformers.js and `core` itself export.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import Architecture
from core.architecture.batch import TokenBatch
from core.architecture.heads import LogitScore, MaskedLanguageHead, Scoring
from core.architecture.limits import hidden_size, mixes_padding
from core.architecture.modules import Dense, Module, Normalize, Pooling
from core.architecture.token_heads import HEAD_FILES, HEAD_OUTPUTS, run_outputs
from core.errors import ModelFormatError, UnsupportedOperation
from core.options import DENSE, SPARSE

logger = logging.getLogger("core")

#: What a `TokenBatch` can feed; each is an attribute of it.
GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
#: Names of token embeddings [batch, tokens, hidden], most usual first.
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings", "hidden_states", "output_0")
#: Names of finished sentence embeddings [batch, dimension]. The later ones mean something else in
#: a graph that gives token embeddings as well.
SENTENCE_OUTPUTS = ("sentence_embedding", "sentence_embeddings", "embeddings", "text_embeds")
_ALWAYS_SENTENCE = SENTENCE_OUTPUTS[:2]
#: Names of a multi-vector model's finished vectors [batch, tokens, dimension], ours first.
VECTOR_OUTPUTS = ("token_vectors", "contextual")
#: Names of what a head gives, most usual first.
LOGIT_OUTPUTS = ("logits", "scores", "output_0")


@dataclass(frozen=True)
class GraphOutput:
    """An output of a graph.

    Attributes:
        names: All it goes by.
        rank: How many sizes it has; None where the graph does not say.
        width: Its last size; None where the graph does not say.
    """

    names: tuple[str, ...]
    rank: int | None = None
    width: int | None = None


def choose_outputs(outputs: Sequence[GraphOutput]) -> tuple[int | None, int | None]:
    """Positions of the token embeddings and of the sentence embeddings; None for what is missing.

    Token embeddings are known by their name, or as the only output of rank 3. Sentence embeddings
    are known by their name alone: what a pooler or a classifier gives has the same rank.
    """
    tokens = _by_name(outputs, TOKEN_OUTPUTS, rank=3)
    if tokens is None:
        heads = set(choose_heads(outputs).values())
        deep = [n for n, output in enumerate(outputs) if output.rank == 3 and n not in heads]
        tokens = deep[0] if len(deep) == 1 else None
    names = SENTENCE_OUTPUTS if tokens is None else _ALWAYS_SENTENCE
    return tokens, _by_name(outputs, names, rank=2)


def choose_vectors(
    architecture: Architecture, outputs: Sequence[GraphOutput]
) -> tuple[int | None, int | None]:
    """Positions of a multi-vector model's token embeddings and of its finished vectors; None for
    what is missing.

    Vectors are known by their name; under another, by their width where that is not the width of
    the token embeddings.
    """
    vectors = _by_name(outputs, VECTOR_OUTPUTS, rank=3)
    tokens, _ = choose_outputs(
        [output for position, output in enumerate(outputs) if position != vectors]
    )
    if tokens is not None and vectors is not None and tokens >= vectors:
        tokens += 1
    if vectors is None and tokens is not None:
        width = outputs[tokens].width
        if width is not None and width == architecture.dimension != transformer_width(architecture):
            return None, tokens
    return tokens, vectors


def transformer_width(architecture: Architecture) -> int:
    """Width of what the transformer itself gives; 0 if no file states it.

    A Dense module on token embeddings has its output's width for the model's hidden size: there
    the transformer's own is the Dense's input's.
    """
    dense = (m for m in architecture.modules if isinstance(m, Dense))
    of_tokens = (int(m.weight.shape[1]) for m in dense if m.input_name == "token_embeddings")
    return next(of_tokens, architecture.hidden_size)


def modules_after_vectors(architecture: Architecture) -> tuple[Module, ...]:
    """The modules that run on vectors a graph has projected. Normalizing twice changes nothing."""
    last = architecture.modules[-1:]
    return tuple(module for module in last if isinstance(module, Normalize))


def check_vector_width(architecture: Architecture, width: int | None, file_name: str) -> None:
    """Refuse a graph whose finished vectors are not those the configuration describes.

    Raises:
        ModelFormatError: File and configuration belong to different models.
    """
    if width and architecture.dimension and width != architecture.dimension:
        raise ModelFormatError(
            f"{file_name} gives vectors of {width} dimensions for each token, and the model's "
            f"configuration says {architecture.dimension}. They belong to different models."
        )


def choose_logits(outputs: Sequence[GraphOutput]) -> int | None:
    """The position of what a head gives; None where nothing is called so.

    Of a classification head that is [batch, labels]; of a language model's, whose score other
    programs compute, [batch, tokens, vocabulary].
    """
    for rank in (2, 3):
        found = _by_name(outputs, LOGIT_OUTPUTS, rank)
        if found is not None:
            return found
    return 0 if len(outputs) == 1 and outputs[0].rank in (None, 2) else None


def choose_heads(outputs: Sequence[GraphOutput]) -> dict[str, int]:
    """Positions of what the heads of `core.architecture.token_heads` give, by the heads' names."""
    found = {}
    for name, output in HEAD_OUTPUTS.items():
        position = _by_name(outputs, (output,), rank=2 if name == SPARSE else 3)
        if position is not None:
            found[name] = position
    return found


class GraphHeads:
    """Which of a model's heads a graph holds; those it was exported without run after it.

    Attributes:
        inside: Position of the graph's output for each head that is in it.

    Args:
        outputs: The graph's.
        has_tokens: Whether one of them is the token embeddings.

    Raises:
        ModelFormatError: Graph and head files belong to different models.
    """

    def __init__(
        self,
        architecture: Architecture,
        outputs: Sequence[GraphOutput],
        file_name: str,
        *,
        has_tokens: bool,
    ) -> None:
        self._architecture, self._file_name = architecture, file_name
        self._has_tokens = has_tokens
        self._told = False
        found = choose_heads(outputs)
        self.inside = {n: at for n, at in found.items() if n in architecture.outputs}
        for name, position in self.inside.items():
            width = outputs[position].width
            expected = getattr(architecture.token_heads, name).out_features
            if name != SPARSE and width not in (None, expected):
                raise ModelFormatError(
                    f"{file_name} gives {name} embeddings of {width} dimensions, and "
                    f"{HEAD_FILES[name]} those of {expected}. They belong to different models."
                )

    def check(self, names: Sequence[str]) -> None:
        """Say once which heads are run after the graph.

        Raises:
            UnsupportedOperation: The graph gives nothing to run them on.
        """
        missing = [n for n in names if n != DENSE and n not in self.inside]
        if not missing or (self._told and self._has_tokens):
            return
        listed = " and ".join(missing)
        again = "Export the model again with core (core.load(..., export=True), or core.export)."
        if not self._has_tokens:
            raise UnsupportedOperation(
                f"{self._file_name} was exported without the model's heads for {listed} "
                f"embeddings, and gives no token embeddings to compute them from. {again}"
            )
        self._told = True
        logger.warning(
            "%s was exported without the model's heads for %s embeddings: they are computed after "
            "it, which is slower. %s",
            self._file_name,
            listed,
            again,
        )

    def complete(
        self,
        names: Sequence[str],
        given: Mapping[str, NDArray[np.float32]],
        token_embeddings: Any,
        batch: TokenBatch,
    ) -> dict[str, NDArray[np.float32]]:
        """All the outputs `names`: those the graph gave, others computed of its token
        embeddings."""
        modules, heads = self._architecture.modules, self._architecture.token_heads
        others = [name for name in names if name not in given]
        rest = run_outputs(np, modules, heads, others, token_embeddings, batch)
        return {name: given[name] if name in given else rest[name] for name in names}


def check_labels(architecture: Architecture, width: int | None, file_name: str) -> None:
    """Refuse a graph with another number of scores than the configuration has labels.

    Raises:
        ModelFormatError: File and configuration belong to different models.
    """
    head = architecture.head
    if isinstance(head, Scoring) and width not in (None, len(head.labels)):
        raise ModelFormatError(
            f"{file_name} gives {width} scores for a pair, and there are {len(head.labels)} labels "
            f"(id2label in config.json). {head.mend}"
        )


def scores_of(
    architecture: Architecture, logits: Any, batch: TokenBatch, file_name: str
) -> NDArray[np.float32]:
    """A reranker's scores, float32 [batch, labels], of what a graph's head gives for a batch.

    A graph may give a language model's logits, [batch, tokens, vocabulary]: there the score is the
    logit of one token after the last one, less that of another.

    Raises:
        ModelFormatError: It is neither.
    """
    array = np.asarray(logits)
    head = architecture.head
    if (
        array.ndim == 3
        and isinstance(head, LogitScore)
        and array.shape[:2]
        == (
            batch.rows,
            batch.width,
        )
    ):
        # The running count is at its highest from the last token on.
        last = np.cumsum(batch.attention_mask, axis=1).argmax(axis=1)
        at_last = array[np.arange(batch.rows), last].astype(np.float32)
        scores = at_last[:, head.true_token]
        if head.false_token is not None:
            scores = scores - at_last[:, head.false_token]
        return np.ascontiguousarray(scores[:, None])
    if array.shape != (batch.rows, architecture.dimension):
        raise ModelFormatError(
            f"{file_name} gives an array of shape {list(array.shape)} for {batch.rows} pairs, and "
            f"config.json names {architecture.dimension} labels (id2label): not a score for each. "
            "Export the model again with core."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _by_name(outputs: Sequence[GraphOutput], names: Sequence[str], rank: int) -> int | None:
    for name in names:
        for position, output in enumerate(outputs):
            if name in output.names and output.rank in (None, rank):
                return position
    return None


def check_inputs(architecture: Architecture, inputs: Iterable[str], file_name: str) -> None:
    """Refuse a graph that is not told which tokens are padding.

    An architecture that takes padding in whatever the mask says is run without any.

    Raises:
        ModelFormatError: It does not take an attention mask.
    """
    names = tuple(inputs)
    if "attention_mask" not in names and not mixes_padding(architecture.config):
        raise ModelFormatError(
            f"{file_name} takes {', '.join(names)} and no attention_mask: padding would count as "
            "text, and an embedding depend on the texts beside it. Export the model again with "
            "core."
        )


def check_tokens_shape(
    architecture: Architecture, token_embeddings: Any, batch: TokenBatch, file_name: str
) -> None:
    """Refuse what a transformer gave for a batch, unless it is [batch, tokens, hidden].

    Raises:
        ModelFormatError: It is something else, or as wide as another model's.
    """
    shape = tuple(token_embeddings.shape)
    if len(shape) != 3 or shape[:2] != (batch.rows, batch.width):
        raise ModelFormatError(
            f"{file_name} gives an array of shape {list(shape)} for {batch.rows} texts of "
            f"{batch.width} tokens: not token embeddings [batch, tokens, hidden]. Load a "
            "model that gives one embedding for each token."
        )
    check_token_width(architecture, int(shape[2]), file_name)


def check_token_width(architecture: Architecture, width: int | None, file_name: str) -> None:
    """Refuse a graph whose token embeddings are not those the configuration describes.

    Raises:
        ModelFormatError: File and configuration belong to different models.
    """
    expected = transformer_width(architecture)
    masked = isinstance(architecture.head, MaskedLanguageHead)
    if masked and width and width == hidden_size(architecture.config) != expected:
        raise ModelFormatError(
            f"{file_name} gives token embeddings of {width} dimensions, and not the logits of the "
            f"{expected} words of the vocabulary. It was exported without the masked language "
            "model's head: export the model again with core."
        )
    if width and expected and width != expected:
        raise ModelFormatError(
            f"{file_name} gives token embeddings of {width} dimensions, and the model's "
            f"configuration says {expected}. They belong to different models."
        )


def modules_after(
    architecture: Architecture, width: int | None, file_name: str
) -> tuple[Module, ...]:
    """The modules that a graph with sentence embeddings of this width leaves to be run.

    The width tells whether the modules after pooling are in it. Normalizing twice changes nothing.

    Raises:
        ModelFormatError: File and configuration belong to different models.
    """
    modules = architecture.modules
    if width is None or not architecture.dimension or width == architecture.dimension:
        last = modules[-1:] if modules else ()
        return tuple(m for m in last if isinstance(m, Normalize))
    for position, module in enumerate(modules):
        if isinstance(module, Pooling):
            if width == architecture.hidden_size * len(module.modes):
                return modules[position + 1 :]
            break
    raise ModelFormatError(
        f"{file_name} gives sentence embeddings of {width} dimensions, and the model's "
        f"configuration says {architecture.dimension}. They belong to different models."
    )
