"""Static embeddings: the mean of a table's rows, in numpy, for every backend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import Architecture
from core.architecture.batch import TokenBatch
from core.architecture.modules import run_modules
from core.architecture.table import counts_unknown_token, read_table
from core.checkpoint.checkpoint import Checkpoint
from core.engine.runtime import Runtime
from core.errors import ModelFormatError
from core.options import LoadOptions
from core.tokenizer.reading import read_tokenizer, unknown_token
from core.tokenizer.tokenizer import Tokenizer


class StaticRuntime(Runtime):
    """A table float32 [vocabulary, dimension], averaged over a text's tokens."""

    def __init__(
        self, architecture: Architecture, table: NDArray[np.float32], ignored: int | None = None
    ) -> None:
        super().__init__(architecture)
        self._table = table
        #: The token model2vec leaves out of the mean; None where all count.
        self.ignored_token = ignored
        self.dimension = int(table.shape[1])
        self.vocabulary = len(table)
        self.batch_tokens = 65_536

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> StaticRuntime:
        """Read sentence-transformers' layout (`embedding.weight`) or model2vec's (`embeddings`)."""
        table = read_table(source, architecture)
        ignored = None
        if not counts_unknown_token(source, architecture):
            ignored = unknown_token(read_tokenizer(source, architecture).backend)
        return cls(architecture, table, ignored)

    def check_vocabulary(self, source: Checkpoint, tokenizer: Tokenizer) -> None:
        """Raise `ModelFormatError` where a token has no row in the table."""
        numbers = tokenizer.backend.get_vocab(with_added_tokens=True).values()
        highest, rows = max(numbers, default=-1), len(self._table)
        if highest >= rows:
            raise ModelFormatError(
                f"{source}: its tokenizer numbers tokens up to {highest}, and its table of static "
                f"embeddings has {rows} rows (0 to {rows - 1}). They belong to different models: "
                "restore or download both again."
            )

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._table[batch.input_ids]
        return rows

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        hidden = self.token_embeddings(batch)
        mask = batch.attention_mask.astype(np.float32)
        if self.ignored_token is not None:
            mask *= batch.input_ids != self.ignored_token
        counts = np.maximum(mask.sum(axis=1), 1.0)
        pooled = (mask[:, None, :] @ hidden)[:, 0, :] / counts[:, None]
        result: NDArray[np.float32] = run_modules(
            np, self.architecture.modules, hidden, batch, sentence_embedding=pooled
        )
        return result
