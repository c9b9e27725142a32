"""Where finished files go: a model's directory, an artifact beside it, the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.arguments import check_path, check_unicode_path
from core.artifacts.artifact import SIDECAR_SUFFIX, Artifact
from core.artifacts.cache import artifact_folder
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import MODEL_MARKERS
from core.errors import CoreError, OptionError
from core.files.staging import (
    explained_writes,
    is_exchangeable,
    link_missing,
    locked_directory,
    put_in_place,
    recover_inside,
    replace_files,
    sync_directory,
    sync_tree,
)

#: Stands in a directory while its configuration is put there.
_COMPLETING = ".core-completing"


def destination_of(source: Checkpoint, target: str | os.PathLike[str] | None) -> Path:
    """The directory an artifact goes to: as given, the model's own, or the cache."""
    if target is not None:
        return check_path("target", target)
    return source.directory or artifact_folder(source)


def check_destination(destination: Path, folder: str) -> None:
    """Refuse a target that cannot take an artifact, before the artifact is made.

    Args:
        folder: Where in it the backend's artifacts lie.

    Raises:
        OptionError: A file stands where a directory must be.
        CoreError: This user may not write there.
    """
    check_unicode_path("target", destination)
    with explained_writes(destination):
        for place in (destination, destination / folder):
            _check_place(place, destination)


def _check_place(place: Path, destination: Path) -> None:
    for part in (place, *place.parents):
        if part.is_dir():
            if place == destination and not os.access(part, os.W_OK):
                raise CoreError(
                    f"Cannot write {destination}: {part} is read-only for this user. Choose "
                    "another target. Nothing was changed."
                )
            return
        if part.exists() or part.is_symlink():
            raise OptionError(
                f"The artifact goes to {str(place)!r}, and {str(part)!r} is a file, not a "
                "directory. Choose another target. Nothing was changed."
            )


def publish_artifact(
    artifact: Artifact,
    destination: Path,
    stage_configuration: Callable[[Path], None] | None = None,
) -> None:
    """Move an artifact and its sidecar, if it has one, from staging into `destination`.

    An artifact with a folder of its own appears in one step, as a new version of that folder.
    Other places get its data first and the file that names it last. A directory that holds no
    model yet also gets the configuration and tokenizer it needs to load on its own.

    Args:
        stage_configuration: Writes those into a directory; None where nothing is missing.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    sidecar = artifact.file_name + SIDECAR_SUFFIX
    recorded = (artifact.root / sidecar).is_file()
    names = (*artifact.all_files, *([sidecar] if recorded else []))
    with explained_writes(destination), _made(destination):
        recover_inside(destination)
        if stage_configuration is not None and not _is_complete(destination):
            _complete(destination, artifact.root.parent / "configuration", stage_configuration)
        tree = _only(artifact.root, names)
        folder = artifact.file_name.rpartition("/")[0]
        own_folder = bool(folder) and all(name.startswith(f"{folder}/") for name in names)
        place = destination / folder
        with locked_directory(destination):
            if own_folder and is_exchangeable(place) and not place.is_symlink():
                link_missing(place, tree / folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                put_in_place(tree / folder, place)
                return
            sync_tree(tree)
            # In case of a crash in between: no description is better than that of another file.
            (destination / sidecar).unlink(missing_ok=True)
            replace_files(tree, destination, order=(artifact.file_name, sidecar))


@contextmanager
def _made(destination: Path) -> Iterator[None]:
    """The directory, made if there is none; one that stays empty goes."""
    is_new = not destination.exists()
    destination.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # there is something in it
                destination.rmdir()


def _is_complete(destination: Path) -> bool:
    if (destination / _COMPLETING).exists():  # a process was killed while it put files there
        return False
    return any((destination / marker).is_file() for marker in MODEL_MARKERS)


def _complete(destination: Path, tree: Path, stage: Callable[[Path], None]) -> None:
    tree.mkdir()
    stage(tree)
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        if (destination / path.relative_to(tree)).exists():
            path.unlink()  # what is there stays
    sync_tree(tree)
    unfinished = destination / _COMPLETING
    unfinished.touch()
    sync_directory(destination)
    replace_files(tree, destination)
    unfinished.unlink()


def _only(tree: Path, names: tuple[str, ...]) -> Path:
    """A directory with just these files of a staging directory: hooks may leave others."""
    chosen = tree.parent / "chosen"
    for name in names:
        place = chosen / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (tree / name).replace(place)
    return chosen
