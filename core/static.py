"""Static embeddings: the mean of a table's rows, in numpy, for every backend."""

from __future__ import annotations

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

    def __init__(self, architecture: Architecture, table: NDArray[np.float32]) -> None:
        super().__init__(architecture)
        self._table = table
        self.dimension = int(table.shape[1])
        self.batch_tokens = 65_536

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> StaticRuntime:
        """Read sentence-transformers' layout (`embedding.weight`) or model2vec's (`embeddings`)."""
        for name in ("model.safetensors", "pytorch_model.bin"):
            if source.has(architecture.file(name)):
                weights = read_weights(source.path(architecture.file(name)))
                return cls(architecture, _table(source, weights))
        raise ModelFormatError(
            f"{source}: the static embedding's weights are missing; neither model.safetensors nor "
            f"pytorch_model.bin is in {architecture.path or 'its top folder'!r}."
        )

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._table[np.minimum(batch.input_ids, len(self._table) - 1)]
        return rows

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        hidden = self.token_embeddings(batch)
        mask = batch.attention_mask.astype(np.float32)
        counts = np.maximum(mask.sum(axis=1), 1.0)
        pooled = (mask[:, None, :] @ hidden)[:, 0, :] / counts[:, None]
        result: NDArray[np.float32] = run_modules(
            np, self.architecture.modules, hidden, batch, sentence_embedding=pooled
        )
        return result


def _table(source: Checkpoint, weights: Tensors) -> NDArray[np.float32]:
    table: Any = weights.get("embedding.weight")
    if table is None and "embeddings" in weights:
        # model2vec: optional rows shared between tokens, optional weight of each token.
        table = weights["embeddings"]
        if "mapping" in weights:
            table = table[weights["mapping"].astype(np.int64)]
        if "weights" in weights:
            table = table.astype(np.float32) * weights["weights"].astype(np.float32)[:, None]
    if table is None or table.ndim != 2:
        raise ModelFormatError(
            f"{source}: the static embedding's weights hold neither embedding.weight nor "
            f"embeddings as a table, but {', '.join(sorted(weights))}."
        )
    return np.ascontiguousarray(table, dtype=np.float32)
