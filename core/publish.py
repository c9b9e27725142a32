"""Putting finished files in their place: nothing half-written is ever seen."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from core.artifact import SIDECAR_SUFFIX, Artifact
from core.checkpoint import Checkpoint
from core.model import EmbeddingModel
from core.options import SaveOptions

CACHE_VARIABLE = "CORE_CACHE"


def cache_directory() -> Path:
    """`$CORE_CACHE`, else `$XDG_CACHE_HOME/core`, else `~/.cache/core`."""
    stated = os.environ.get(CACHE_VARIABLE)
    if stated:
        return Path(stated).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "core"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fill a cache folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        yield


def destination_of(source: Checkpoint, target: str | os.PathLike[str] | None, backend: str) -> Path:
    """The directory an artifact goes to: as given, the model's own, or the cache."""
    if target is not None:
        return Path(os.fspath(target)).expanduser()
    if source.directory is not None:
        return source.directory
    name = (source.repo_id or source.name).replace("/", "--")
    return cache_directory() / "artifacts" / f"{name}-{(source.commit or '')[:12]}"


@contextmanager
def staging_directory(near: Path) -> Iterator[Path]:
    """An empty directory on the file system of `near`, removed afterwards."""
    near.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".core-staging-", dir=near.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish_artifact(artifact: Artifact, source: Checkpoint, destination: Path) -> None:
    """Move an artifact and its sidecar from staging into `destination`."""
    for name in (*artifact.all_files, artifact.file_name + SIDECAR_SUFFIX):
        place = destination / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (artifact.root / name).replace(place)


def save_model(
    model: EmbeddingModel,
    directory: Path,
    options: SaveOptions,
    write: Callable[[Path], None],
) -> Path:
    """Stage a whole model directory and publish it as `directory`."""
    with staging_directory(directory) as staging:
        for name in model.source.names:
            place = staging / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.source.path(name), place)
        write(staging)
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(staging, directory, dirs_exist_ok=True)
    return directory
