"""Texts by the weight of each of their words, looked up in a table: queries without a model.

What sentence-transformers calls `SparseStaticEmbedding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import Architecture
from core.architecture.transformer_files import read_limits
from core.engine.sparse import SparseEmbeddings
from core.errors import ModelFormatError
from core.files.source import Source
from core.files.weights import checked_weights, read_folder
from core.tokenizer.reading import read_tokenizer
from core.tokenizer.tokenizer import Tokenizer


class WordWeights:
    """A weight for each word of a vocabulary. A text has those of its words, however often they
    come.

    Args:
        tokenizer: Puts nothing around a text.
        weights: float32 [vocabulary].
    """

    def __init__(self, tokenizer: Tokenizer, weights: NDArray[np.float32]) -> None:
        self.tokenizer, self.weights = tokenizer, weights

    def encode(self, texts: Sequence[str]) -> SparseEmbeddings:
        """float32 [texts, vocabulary].

        Raises:
            ModelFormatError: A text has a token that the table has no weight for.
        """
        shape = (len(texts), len(self.weights))
        if not texts:
            return SparseEmbeddings.from_rows([], shape[1])
        tokenized = self.tokenizer.encode(texts)
        rows = np.repeat(np.arange(len(texts)), tokenized.lengths)
        outside = tokenized.ids >= shape[1]
        if outside.any():
            place = int(np.argmax(outside))
            token = self.tokenizer.backend.id_to_token(int(tokenized.ids[place]))
            raise ModelFormatError(
                f"The text at position {rows[place]} has the token {token!r}, and the model has "
                f"weights for {shape[1]} tokens. The tokenizer belongs to another model: restore "
                "the files that belong together."
            )
        words = np.unique(rows * shape[1] + tokenized.ids)  # each once, in order
        rows, ids = np.divmod(words, shape[1])
        kept = self.weights[ids] != 0
        rows, ids = rows[kept], ids[kept]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
        return SparseEmbeddings(indptr, ids.astype(np.int32), self.weights[ids], shape)


def read_word_weights(source: Source, architecture: Architecture, folder: str) -> WordWeights:
    """The table in a folder, and the tokenizer beside it.

    Raises:
        ModelFormatError: Either is missing, damaged, or does not fit the model's vocabulary.
    """
    prefix = f"{folder}/" if folder else ""
    beside = replace(architecture, path=folder, config={}, **read_limits(source, prefix, {}, {}))
    tokenizer = read_tokenizer(source, beside, special_tokens=False)
    name = f"{prefix}config.json"
    config: dict[str, Any] = source.read_json(name) if source.has(name) else {}
    listed = config.get("path")
    if isinstance(listed, str) and listed.endswith(".json"):
        weights = _listed(source, prefix, listed, tokenizer, architecture.dimension)
    else:
        tensors = read_folder(source, folder, f"the query weights in {folder!r}")
        if "weight" not in tensors or tensors["weight"].ndim != 1:
            raise ModelFormatError(
                f"{source}: the query weights in {folder!r} hold no 'weight' [vocabulary], but "
                f"{', '.join(sorted(tensors)) or 'nothing'}."
            )
        weights = checked_weights(tensors["weight"], f"{source}: weight in {folder!r}")
    if architecture.dimension and len(weights) != architecture.dimension:
        raise ModelFormatError(
            f"{source}: {folder!r} has {len(weights)} weights and the documents' embeddings "
            f"{architecture.dimension} dimensions. They belong to different models."
        )
    return WordWeights(tokenizer, weights)


def _listed(
    source: Source, prefix: str, listed: str, tokenizer: Tokenizer, vocabulary: int
) -> NDArray[np.float32]:
    """Weights that a JSON file has by their words, as OpenSearch publishes them."""
    places = (prefix + listed, listed, "idf.json")
    name = next((place for place in places if place in source.names), None)
    if name is None:
        raise ModelFormatError(
            f"{source}: the query weights are in {listed!r}, which is not among its files. Copy it "
            "there, or save the model again with sentence-transformers, which writes them as "
            "model.safetensors."
        )
    content = source.read_json(name)
    weights = np.zeros(vocabulary, dtype=np.float32)
    for word, weight in content.items():
        number = tokenizer.backend.token_to_id(word)
        right = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not right or number is None or number >= vocabulary:
            raise ModelFormatError(
                f"{source}: {name} has the weight {weight!r:.40} for {word!r:.40}; each must be a "
                "number for a word of the vocabulary."
            )
        weights[number] = weight
    return weights
