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

from core.artifacts.cache import CACHE_VARIABLE, cache_directory, lock_of, record_of
from core.errors import CoreError
from core.files.staging import (
    STAGING_PREFIX,
    explained_writes,
    lock_if_free,
    locked_directory,
)

#: Folders of the cache whose folders are entries; anything else in it is not core's.
_ROOMS = ("artifacts", "demo", "exports/*", "testing", "tuning")


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: an export, the artifacts of one commit, what is not finished.

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
    entries = filter(None, map(_entry, _folders()))
    return sorted(entries, key=lambda entry: (-entry.size, entry.folder))


def clear_cache(
    older_than: float | None = None,
) -> tuple[list[Entry], list[Entry], list[CoreError]]:
    """Remove what was written more than `older_than` days ago; None for everything.

    Returns:
        What was removed, what was kept because a process is writing it, and why anything else
        could not be removed.
    """
    removed: list[Entry] = []
    kept: list[Entry] = []
    errors: list[CoreError] = []
    for entry in list_cache():
        if older_than is not None and entry.age_days <= older_than:
            continue
        with _locked_if_free(entry.folder) as free:
            if free:
                try:
                    _remove(entry.folder)
                except CoreError as error:
                    errors.append(error)
                else:
                    removed.append(entry)
            elif entry.folder.exists():
                kept.append(entry)
    return removed, kept, errors


def _folders() -> Iterator[Path]:
    root = cache_directory()
    _check_readable(root)
    for room in _ROOMS:
        for folder in sorted(root.glob(f"{room}/*")):
            # A link would lead out of the cache.
            is_entry = _is_unfinished(folder) or not folder.name.startswith(".")
            if is_entry and folder.is_dir() and not folder.is_symlink():
                yield folder


def _check_readable(root: Path) -> None:
    """Raise `CoreError` where this user may not see what is there, which would count as nothing."""
    try:
        next(root.iterdir(), None)
    except PermissionError as error:
        raise CoreError(
            f"Cannot list the cache {root}: this user may not read it. Set ${CACHE_VARIABLE} to "
            "another directory, or run this as its owner."
        ) from error
    except OSError:  # there is none yet
        return


def _is_unfinished(folder: Path) -> bool:
    """Whether a process writes it or takes it away; one that was killed has left it."""
    return folder.name.startswith(STAGING_PREFIX)


def _entry(folder: Path) -> Entry | None:
    """None if it is gone meanwhile."""
    size = 0
    try:
        written = folder.stat().st_mtime
    except FileNotFoundError:
        return None
    inside = (Path(place, n) for place, dirs, files in os.walk(folder) for n in (*dirs, *files))
    for path in (*inside, record_of(folder)):
        try:
            found = path.lstat()
        except OSError:  # it is being replaced
            continue
        if not path.is_dir():
            size += found.st_size
        written = max(written, found.st_mtime)
    with _locked_if_free(folder) as free:
        return Entry(folder, size, written, not free) if free or folder.exists() else None


@contextmanager
def _locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the folder's locks, unless another process has one of them: then it yields False."""
    with ExitStack() as stack:
        free = True
        if _is_unfinished(folder):  # a process that makes one locks it a moment later
            stack.enter_context(locked_directory(folder.parent))
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
    since another process may be waiting for it.

    Raises:
        CoreError: This user may not.
    """
    away = folder
    if not _is_unfinished(folder):
        record = record_of(folder)
        with explained_writes(record):
            record.unlink(missing_ok=True)
        with explained_writes(folder):
            away = folder.with_name(f"{STAGING_PREFIX}removed-{os.getpid()}-{folder.name}")
            folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    if away.exists():
        raise CoreError(
            f"Cannot remove all of {away}: another user's files or read-only folders are in it. "
            "Remove it yourself."
        )
