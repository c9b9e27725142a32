"""The plugin: answers what it knows, asks the backend for the rest, and remembers that."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import core
from embedding_cache.store import Counts, Store

if TYPE_CHECKING:
    from core import EncodeOptions, Model

logger = logging.getLogger("core.embedding_cache")

PATH_VARIABLE = "CORE_EMBEDDING_CACHE"
SIZE_VARIABLE = "CORE_EMBEDDING_CACHE_MB"
DEFAULT_MEGABYTES = 1_000
#: Kinds of model with one row of numbers for each input.
_ROWS = ("embedding", "reranker")


class EmbeddingCache:
    """Sentence embeddings of every backend, in `$CORE_EMBEDDING_CACHE` (a file).

    What core does after the hook (truncation, normalization, precision) is not part of the key, so
    all of these share one entry.
    """

    SPEC_VERSION = 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The file in use, opened at the first call."""
        with self._lock:
            if self._store is None:
                default = Path.home() / ".cache/core-embedding-cache/embeddings.sqlite"
                path = Path(os.environ.get(PATH_VARIABLE) or default)
                megabytes = float(os.environ.get(SIZE_VARIABLE) or DEFAULT_MEGABYTES)
                self._store = Store(path, int(megabytes * 1_000_000))
            return self._store

    def use(self, store: Store | None) -> None:
        """Use another file; None goes back to the environment's."""
        with self._lock:
            self._store = store

    def counts(self) -> Counts:
        """Hits, misses, entries, bytes."""
        return self.store.counts()

    @core.hookimpl(tryfirst=True)
    def encode(self, model: Model, texts: Sequence[str], options: EncodeOptions) -> Any:
        # None leaves the call to the backend.
        plain = options.output_value == "sentence_embedding" and not options.outputs
        if model.kind not in _ROWS or not plain or not texts:
            return None
        salt = hashlib.sha256(f"{model.identity}\0{options.prompt or ''}\0".encode())
        keys = [_key(salt, text) for text in texts]
        try:
            known = self.store.find(keys)
        except sqlite3.Error as error:
            logger.warning("The embedding cache cannot be read and is left out: %s", error)
            return None
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            # Not model.encode: plugins around this call see it as a whole already.
            rows = model.hooks.unwrapped.raw_encode(model, list(missing.values()), options)
            fresh = dict(zip(missing, rows, strict=True))
            self._remember(fresh)
            known = {**known, **fresh}
        elif self.store.filling() > 0.5:
            self.store.touch(keys)
        return np.stack([known[key] for key in keys])

    def _remember(self, fresh: dict[bytes, Any]) -> None:
        try:
            self.store.add(fresh)
        except sqlite3.Error as error:  # the embeddings are there anyway
            logger.warning("The embedding cache cannot be written: %s", error)


def _key(salt: Any, text: str) -> bytes:
    digest = salt.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    key: bytes = digest.digest()
    return key


#: What the entry point names.
plugin = EmbeddingCache()
