"""Files that are opened more than once, and must still be what they were at first.

A model's files may be replaced while it serves: by a new version of the directory, or by one that
is written over them. What is opened later has to be what was loaded, or an error.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError

_CHUNK = 1 << 22
#: An open file cannot be renamed on Windows, and a model's directory must stay replaceable.
_HOLDS = sys.platform != "win32"
#: Where a descriptor can be opened again as a file of its own.
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from another without reading it."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> Stamp:
        """Of a path, links followed, or of a descriptor.

        Raises:
            OSError: There is no such file.
        """
        found = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino)

    @property
    def content(self) -> tuple[int, int]:
        """Size and time: what a copy that keeps times shares, on another machine as well."""
        return self.size, self.mtime_ns

    def is_same_as(self, other: Stamp) -> bool:
        """Whether a file is most likely what it was.

        Another inode alone means nothing on some network file systems, which renumber files;
        but where times are whole seconds, tools may have set them all alike.
        """
        alike = self == other or self.mtime_ns % 1_000_000_000 != 0
        return self.content == other.content and alike


def changed(path: Path, model: object) -> ModelError:
    """The error for a file that is no longer what was loaded."""
    return ModelError(
        f"{path} has changed or is gone since {model} was loaded, and what is there now may belong "
        "to another model. Load the model again. To replace a model that is in use, put the new "
        "one into a directory of its own."
    )


class HeldFiles:
    """Files that a runtime opens now and may open again later. Thread-safe.

    They are kept open, which costs a descriptor each and no memory: one that was replaced since is
    still available then, and one that was written over is noticed.

    Args:
        paths: The file that is opened by its path, and those it refers to.
        model: How messages call the model.
    """

    def __init__(self, paths: Iterable[Path], model: str) -> None:
        self._paths, self._model = tuple(paths), model
        self._descriptors: list[int] = []
        self._finalizer = weakref.finalize(self, _close, self._descriptors)
        if _HOLDS:
            for path in self._paths:
                self._descriptors.append(os.open(path, os.O_RDONLY))
        self._stamps = [Stamp.of(file) for file in self._files]

    @property
    def _files(self) -> Sequence[Path | int]:
        return self._descriptors or self._paths

    def check(self) -> None:
        """Raise `ModelError` where one was written over, which shows in memory mapped from it."""
        for path, file, stamp in zip(self._paths, self._files, self._stamps, strict=True):
            try:
                same = Stamp.of(file).content == stamp.content
            except OSError:
                same = False
            if not same:
                raise changed(path, self._model)

    def check_in_place(self) -> None:
        """Raise `ModelError` where another file lies in the place of one, unless it is a copy."""
        self.check()
        for number, path in enumerate(self._paths):
            if not self._is_in_place(number):
                raise changed(path, self._model)

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """A path under which the first file is what it was, while the context lasts.

        Raises:
            ModelError: It is not, before or after.
        """
        self.check()
        alone = len(self._descriptors) == 1
        if alone and not self._is_in_place(0) and _DESCRIPTORS.is_dir():
            yield _DESCRIPTORS / str(self._descriptors[0])
        else:
            self.check_in_place()
            yield self._paths[0]
            self.check_in_place()
        self.check()

    def close(self) -> None:
        """Let the files go."""
        self._finalizer()

    def _is_in_place(self, number: int) -> bool:
        path, stamp = self._paths[number], self._stamps[number]
        try:
            if Stamp.of(path) == stamp:
                return True
            # Saving a model to its own directory puts a copy there.
            return bool(self._descriptors) and _same_content(self._descriptors[number], path)
        except OSError:
            return False


def _same_content(descriptor: int, path: Path) -> bool:
    if sys.platform == "win32" or os.fstat(descriptor).st_size != path.stat().st_size:
        return False
    with path.open("rb") as file:
        place = 0
        while chunk := file.read(_CHUNK):
            if os.pread(descriptor, len(chunk), place) != chunk:
                return False
            place += len(chunk)
    return True


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
