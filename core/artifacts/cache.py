"""The cache of what `core` makes: exports of models that lack a backend's file, and artifacts of
Hub repositories."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.architecture.kinds import EMBEDDING
from core.artifacts.tuned import LOCK_NAME
from core.checkpoint.checkpoint import Checkpoint, source_identity
from core.files.staging import explained_writes
from core.machine.surroundings import expand_home

CACHE_VARIABLE = "CORE_CACHE"
_ADVICE = f"The cache of exports is where ${CACHE_VARIABLE} says."


def cache_directory() -> Path:
    """`$CORE_CACHE`, else `$XDG_CACHE_HOME/core`, else `~/.cache/core`."""
    stated = os.environ.get(CACHE_VARIABLE)
    if stated:
        return expand_home(stated)
    base = os.environ.get("XDG_CACHE_HOME")
    return expand_home(base or "~/.cache", CACHE_VARIABLE) / "core"


def artifact_folder(source: Checkpoint) -> Path:
    """Where artifacts of a Hub repository go that were given no target."""
    name = (source.repo_id or source.name).replace("/", "--")
    return cache_directory() / "artifacts" / f"{name}-{(source.commit or '')[:12]}"


def export_folder(source: Checkpoint, backend: str, distribution: str, options: Any) -> Path:
    """Where the export of a checkpoint by a backend's version with these options is kept."""
    kind = source.architecture.kind
    also = [] if kind == EMBEDDING else [kind]
    document = json.dumps([_state(source), backend, distribution, repr(options), *also])
    digest = hashlib.sha256(document.encode()).hexdigest()[:16]
    readable = source.readable_name.replace("/", "--")
    return cache_directory() / "exports" / backend / f"{readable}-{digest}"


def _state(source: Checkpoint) -> Any:
    """A commit; or a directory's path and the sizes and times of the files an export reads."""
    if source.directory is None:
        return source_identity(source)
    architecture = source.architecture
    folders = {"", architecture.path, *(folder for _, folder in architecture.entries)}
    read = [
        name for name in source.names if name.rpartition("/")[0] in folders and name != LOCK_NAME
    ]
    return source_identity(source, read)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fill a cache folder; one that stays empty goes."""
    with ExitStack() as stack:
        lock = lock_of(folder)
        with explained_writes(lock, _ADVICE):
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(lock))
        with explained_writes(folder, _ADVICE):
            folder.mkdir(exist_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def finished(folder: Path) -> list[str]:
    """Files to load from a cache folder, as `record_finished` was told; none if one is gone."""
    try:
        names = json.loads(record_of(folder).read_bytes())
        return [str(name) for name in names if (folder / str(name)).is_file()]
    except (OSError, ValueError):
        return []


def record_finished(folder: Path, names: Sequence[str]) -> None:
    """State that a cache folder is complete."""
    record = record_of(folder)
    with explained_writes(record, _ADVICE):
        try:
            record.write_text(json.dumps(list(names)), encoding="utf-8")
        except OSError:
            record.unlink(missing_ok=True)
            raise


def lock_of(folder: Path) -> Path:
    """The file that a process locks while it fills a cache folder."""
    return folder.with_name(f"{folder.name}.lock")


def record_of(folder: Path) -> Path:
    """Beside the folder: everything in it is the model's."""
    return folder.with_name(f"{folder.name}.json")
