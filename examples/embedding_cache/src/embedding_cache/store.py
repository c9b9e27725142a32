"""Rows of float32 under 32-byte keys, in one SQLite file that several processes share."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: SQLite takes at most 32,766 parameters in a statement; older builds 999.
_KEYS_PER_QUERY = 900
#: What the file holds beyond keys and vectors, measured: page headers, index, row ids.
_OVERHEAD_BYTES = 120

_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    key BLOB PRIMARY KEY,
    vector BLOB NOT NULL,
    used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS embeddings_used ON embeddings (used);
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES ('bytes', 0), ('clock', 0);
"""


@dataclass(frozen=True)
class Counts:
    """What this process asked for, and what the file holds."""

    hits: int
    misses: int
    entries: int
    bytes: int


class Store:
    """A bounded cache of vectors; the least recently stored or found go first.

    Safe for threads and processes: one connection per thread, SQLite's write-ahead log between
    processes, and every change is one transaction.

    Args:
        path: The file; its directory is made.
        max_bytes: What keys and vectors may take together.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._local = threading.local()
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors there are, read-only views; counts hits and misses."""
        found: dict[bytes, NDArray[np.float32]] = {}
        connection = self._connection()
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            rows = connection.execute(
                f"SELECT key, vector FROM embeddings WHERE key IN ({marks})", part
            )
            found.update((key, np.frombuffer(vector, np.float32)) for key, vector in rows)
        hits = sum(key in found for key in keys)
        with self._lock:
            self._hits += hits
            self._misses += len(keys) - hits
        return found

    def add(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Store vectors, then drop the oldest until the bound holds."""
        connection = self._connection()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE totals SET value = value + 1 WHERE name = 'clock'")
            (clock,) = _one(connection, "SELECT value FROM totals WHERE name = 'clock'")
            size = 0
            for key, vector in vectors.items():
                data = np.ascontiguousarray(vector, np.float32).tobytes()
                added = connection.execute(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)", (key, data, clock)
                ).rowcount
                size += added * (len(data) + _OVERHEAD_BYTES)
            connection.execute("UPDATE totals SET value = value + ? WHERE name = 'bytes'", (size,))
            self._shrink(connection)

    def touch(self, keys: Sequence[bytes]) -> None:
        """Note that these were used, so that they are kept longer."""
        connection = self._connection()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE totals SET value = value + 1 WHERE name = 'clock'")
            (clock,) = _one(connection, "SELECT value FROM totals WHERE name = 'clock'")
            connection.executemany(
                "UPDATE embeddings SET used = ? WHERE key = ?", [(clock, key) for key in keys]
            )

    def counts(self) -> Counts:
        """Hits and misses of this process; entries and bytes of the file."""
        connection = self._connection()
        (entries,) = _one(connection, "SELECT COUNT(*) FROM embeddings")
        (size,) = _one(connection, "SELECT value FROM totals WHERE name = 'bytes'")
        return Counts(self._hits, self._misses, entries, size)

    def filling(self) -> float:
        """Which part of the bound is used, 0 to 1."""
        (size,) = _one(self._connection(), "SELECT value FROM totals WHERE name = 'bytes'")
        return float(size) / self.max_bytes

    def clear(self) -> None:
        """Forget everything."""
        connection = self._connection()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM embeddings")
            connection.execute("UPDATE totals SET value = 0 WHERE name = 'bytes'")

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _shrink(self, connection: sqlite3.Connection) -> None:
        (size,) = _one(connection, "SELECT value FROM totals WHERE name = 'bytes'")
        if size <= self.max_bytes:
            return
        # A tenth more than needed, so that a full cache does not do this at every call.
        excess, freed = size - int(self.max_bytes * 0.9), 0
        dropped = []
        for key, length in connection.execute(
            "SELECT key, LENGTH(vector) FROM embeddings ORDER BY used, rowid"
        ):
            if freed >= excess:
                break
            freed += length + _OVERHEAD_BYTES
            dropped.append((key,))
        connection.executemany("DELETE FROM embeddings WHERE key = ?", dropped)
        connection.execute("UPDATE totals SET value = value - ? WHERE name = 'bytes'", (freed,))

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        # A connection must not cross a fork.
        if connection is None or self._local.process != os.getpid():
            connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            self._local.connection, self._local.process = connection, os.getpid()
        return connection


def _one(connection: sqlite3.Connection, statement: str) -> tuple[int, ...]:
    row: tuple[int, ...] = connection.execute(statement).fetchone()
    return row
