"""Keeps embeddings in SQLite, for every backend of core."""

from __future__ import annotations

from embedding_cache.plugin import plugin
from embedding_cache.store import Counts, Store

__all__ = ["Counts", "Store", "plugin"]
