"""Static embeddings: the mean of a table's rows, in numpy, for every backend."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture import Architecture
from core.checkpoint import Checkpoint
from core.errors import ModelFormatError
from core.modules import run_modules
from core.options import LoadOptions
from core.runtime import Runtime, TokenBatch
from core.weights import Tensors, read_weights


class StaticRuntime(Runtime):
    """A table float32 [vocabulary, dimension], averaged over a text's tokens."""

    def __init__(
        self, architecture: Architecture, table: NDArray[np.float32], ignored: int | None = None
    ) -> None:
        super().__init__(architecture)
        self._table = table
        # model2vec leaves unknown tokens out of the mean; None where they count.
        self._ignored = ignored
        self.dimension = int(table.shape[1])
        self.batch_tokens = 65_536

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> StaticRuntime:
        """Read sentence-transformers' layout (`embedding.weight`) or model2vec's (`embeddings`)."""
        table = read_table(source, architecture)
        return cls(architecture, table, ignored_token(source, architecture))

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._table[np.minimum(batch.input_ids, len(self._table) - 1)]
        return rows

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        hidden = self.token_embeddings(batch)
        mask = batch.attention_mask.astype(np.float32)
        if self._ignored is not None:
            mask *= batch.input_ids != self._ignored
        counts = np.maximum(mask.sum(axis=1), 1.0)
        pooled = (mask[:, None, :] @ hidden)[:, 0, :] / counts[:, None]
        result: NDArray[np.float32] = run_modules(
            np, self.architecture.modules, hidden, batch, sentence_embedding=pooled
        )
        return result


def read_table(source: Checkpoint, architecture: Architecture) -> NDArray[np.float32]:
    """The embedding of every token, float32 [vocabulary, dimension].

    Raises:
        ModelFormatError: The weights are missing, or hold no such table.
    """
    weights = _read(source, architecture)
    table: Any = weights.get("embedding.weight")
    if table is None and "embeddings" in weights:
        # model2vec: optional rows shared between tokens, optional weight of each token.
        table = weights["embeddings"]
        if table.ndim == 2 and "mapping" in weights:
            table = table[_row_numbers(source, weights["mapping"], len(table))]
        if table.ndim == 2 and "weights" in weights:
            scale = weights["weights"].astype(np.float32).reshape(-1)
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


def is_plain_table(source: Checkpoint) -> bool:
    """Whether the weights are sentence-transformers' single table, not model2vec's parts."""
    return "embedding.weight" in _read(source, source.architecture)


def ignored_token(source: Checkpoint, architecture: Architecture) -> int | None:
    """The unknown token's id, which model2vec leaves out of the mean; None where it counts.

    It counts in sentence-transformers, which reads the same weights under a modules.json.
    """
    from core.tokenizer import read_tokenizer

    if source.has("modules.json") or is_plain_table(source):
        return None
    tokenizer = read_tokenizer(source, architecture).backend
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    number = tokenizer.token_to_id(token) if isinstance(token, str) else model.get("unk_id")
    return number if isinstance(number, int) else None


def _read(source: Checkpoint, architecture: Architecture) -> Tensors:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if source.has(architecture.file(name)):
            return read_weights(source.path(architecture.file(name)))
    raise ModelFormatError(
        f"{source}: the static embedding's weights are missing; neither model.safetensors nor "
        f"pytorch_model.bin is in {architecture.path or 'its top folder'!r}."
    )


def _row_numbers(source: Checkpoint, mapping: NDArray[Any], rows: int) -> NDArray[np.int64]:
    numbers = mapping.astype(np.int64).reshape(-1)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < rows:
        raise ModelFormatError(
            f"{source}: the static embedding's mapping names rows outside its {rows} embeddings."
        )
    return numbers
