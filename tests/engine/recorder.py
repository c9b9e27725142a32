"""A runtime that passes batches on to another: what the engine asks of a backend, seen from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import core
from core import EmbeddingModel, TokenBatch


class Recorder(core.Runtime):
    """Takes the place of a model's runtime, remembers its batches, and fails where it is told to.

    The model must be the test's own.
    """

    def __init__(
        self, model: EmbeddingModel, fails: Callable[[TokenBatch], bool] = lambda batch: False
    ) -> None:
        self._inner: core.Runtime = model.runtime
        self._fails = fails
        super().__init__(self._inner.architecture)
        for name in ("device", "dtype", "files", "survives_fork", "max_workers", "batch_tokens"):
            setattr(self, name, getattr(self._inner, name))
        self.batches: list[TokenBatch] = []
        model.runtime = self

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> Any:
        return self._inner.token_embeddings(batch, workers=workers)

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> Any:
        self.batches.append(batch)
        if self._fails(batch):
            raise MemoryError("no room for this batch")
        return self._inner.sentence_embeddings(batch, workers=workers)

    def preferred_workers(self, batches: int) -> int:
        return self._inner.preferred_workers(batches)

    def close(self) -> None:
        self._inner.close()

    @property
    def rows(self) -> int:
        """Texts computed so far."""
        return sum(batch.rows for batch in self.batches)
