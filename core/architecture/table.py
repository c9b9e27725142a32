"""The table of a static embedding, from the weights of sentence-transformers and of model2vec."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import Architecture
from core.errors import ModelFormatError
from core.files.source import Source
from core.files.weights import Tensors, checked_weights, read_folder


def read_table(source: Source, architecture: Architecture) -> NDArray[np.float32]:
    """The embedding of every token, float32 [vocabulary, dimension].

    Raises:
        ModelFormatError: The weights are missing, or hold no such table.
    """
    weights = _read(source, architecture)
    table: Any = weights.get("embedding.weight")
    if table is not None:
        table = checked_weights(table, f"{source}: embedding.weight of the static embedding")
    elif "embeddings" in weights:
        # model2vec: optional rows shared between tokens, optional weight of each token.
        table = weights["embeddings"]
        if table.dtype != np.int8:  # model2vec's own quantization, averaged as it is
            table = checked_weights(table, f"{source}: embeddings of the static embedding")
        if table.ndim == 2 and "mapping" in weights:
            table = table[_row_numbers(source, weights["mapping"], len(table))]
        if table.ndim == 2 and "weights" in weights:
            scale = checked_weights(weights["weights"], f"{source}: weights of its tokens")
            scale = scale.reshape(-1)
            if len(scale) != len(table):
                raise ModelFormatError(
                    f"{source}: the static embedding has {len(table)} rows and {len(scale)} "
                    "weights."
                )
            table = table.astype(np.float32) * scale[:, None]
    if table is None or table.ndim != 2 or not len(table):
        raise ModelFormatError(
            f"{source}: the static embedding's weights hold neither embedding.weight nor "
            f"embeddings as a table, but {', '.join(sorted(weights)) or 'nothing'}."
        )
    return np.ascontiguousarray(table, dtype=np.float32)


def is_plain_table(source: Source, architecture: Architecture) -> bool:
    """Whether the weights are sentence-transformers' single table, not model2vec's parts."""
    return "embedding.weight" in _read(source, architecture)


def counts_unknown_token(source: Source, architecture: Architecture) -> bool:
    """Whether the unknown token takes part in the mean.

    It does in sentence-transformers, which reads the same weights under a modules.json; model2vec
    leaves it out.
    """
    return source.has("modules.json") or is_plain_table(source, architecture)


def _read(source: Source, architecture: Architecture) -> Tensors:
    return read_folder(source, architecture.path, "the static embedding")


def _row_numbers(source: Source, mapping: NDArray[Any], rows: int) -> NDArray[np.int64]:
    if mapping.dtype.kind not in "iu":
        raise ModelFormatError(
            f"{source}: the static embedding's mapping has dtype {mapping.dtype}; it holds row "
            "numbers."
        )
    numbers = mapping.astype(np.int64).reshape(-1)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < rows:
        raise ModelFormatError(
            f"{source}: the static embedding's mapping names rows outside its {rows} embeddings."
        )
    return numbers
