"""Files as plain files in one folder, for runtimes that follow no links."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from core.artifacts.cache import cache_directory
from core.errors import ModelError
from core.files.source import Source


@contextmanager
def plain_folder(source: Source, names: Sequence[str]) -> Iterator[Path]:
    """A local directory in which `names` lie at their relative places, none of them a link.

    The Hub's cache holds links, and some runtimes refuse those that leave the folder. There the
    files are gathered, as hard links where the disk allows it and else as copies, and removed
    afterwards: what is mapped from them stays readable.

    Raises:
        ModelError: They cannot be put anywhere.
    """
    folder = source.folder(names)
    paths = {name: (folder / name).resolve() for name in names}
    if all(path == folder.resolve() / name for name, path in paths.items()):
        yield folder
        return
    gathered = None
    try:
        try:
            gathered = _temporary()
            for name, path in paths.items():
                _link_or_copy(path, gathered / name)
        except OSError as error:
            raise ModelError(
                f"{source}: {', '.join(names)} are links, which this runtime does not read, and "
                f"copies cannot be written ({error}). Copy the model to a directory of plain "
                "files, or point CORE_CACHE to a disk with room."
            ) from error
        yield gathered
    finally:
        if gathered is not None:
            shutil.rmtree(gathered, ignore_errors=True)


def _link_or_copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:  # another disk, or a file of another user
        shutil.copyfile(path, place)


def _temporary() -> Path:
    """A directory in the cache, most likely on the disk of the Hub's; else in any other place.

    Raises:
        OSError: Nothing can be written anywhere.
    """
    with suppress(OSError):
        cache = cache_directory()
        cache.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="gathered-", dir=cache))
    return Path(tempfile.mkdtemp(prefix="core-gathered-"))
