"""What lies in the cache, how much room it takes, and how it is removed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from core.artifacts.cache import cache_directory, lock_of, record_of
from core.files.staging import STAGING_PREFIX, explained_writes, lock_if_free

#: Folders of the cache whose folders are entries; anything else in it is not core's.
_ROOMS = ("artifacts", "demo", "exports/*", "testing", "tuning")


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: an export, the artifacts of one commit.

    Attributes:
        folder: Where it is.
        size: Bytes of its files.
        written: When something in it was last written, in seconds since 1970.
        in_use: Whether a process is writing it.
    """

    folder: Path
    size: int
    written: float
    in_use: bool

    @property
    def age_days(self) -> float:
        """Days since it was written."""
        return max(time.time() - self.written, 0.0) / 86_400


def list_cache() -> list[Entry]:
    """Every folder of the cache, the largest first."""
    return sorted(map(_entry, _folders()), key=lambda entry: (-entry.size, entry.folder))


def clear_cache(older_than: float | None = None) -> tuple[list[Entry], list[Entry]]:
    """Remove what was written more than `older_than` days ago; None for everything.

    Returns:
        What was removed, and what was kept because a process is writing it.
    """
    removed: list[Entry] = []
    kept: list[Entry] = []
    for entry in list_cache():
        if older_than is not None and entry.age_days <= older_than:
            continue
        with _locked_if_free(entry.folder) as free:
            if free:
                _remove(entry.folder)
        (removed if free else kept).append(entry)
    return removed, kept


def _folders() -> Iterator[Path]:
    root = cache_directory()
    for room in _ROOMS:
        for folder in sorted(root.glob(f"{room}/*")):
            # A link would lead out of the cache.
            if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("."):
                yield folder


def _entry(folder: Path) -> Entry:
    size, written = 0, folder.stat().st_mtime
    for path in (*folder.rglob("*"), record_of(folder)):
        try:
            found = path.lstat()
        except OSError:  # it is being replaced
            continue
        if not path.is_dir():
            size += found.st_size
        written = max(written, found.st_mtime)
    with _locked_if_free(folder) as free:
        return Entry(folder, size, written, not free)


@contextmanager
def _locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the folder's locks, unless another process has one of them: then it yields False."""
    with ExitStack() as stack:
        free = True
        lock = lock_of(folder)
        if lock.exists():  # an export holds it; artifacts lock their folder itself
            try:
                stack.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                free = False
            except OSError:  # a cache that this user may only read
                pass
        if free:
            free = stack.enter_context(lock_if_free(folder))
        yield free


def _remove(folder: Path) -> None:
    """Out of the way in one step, so that nobody loads half of it; the lock's file stays,
    since another process may be waiting for it."""
    with explained_writes(folder):
        record_of(folder).unlink(missing_ok=True)
        away = folder.with_name(f"{STAGING_PREFIX}removed-{os.getpid()}-{folder.name}")
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)
