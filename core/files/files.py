"""Where a model's files come from: a directory, one in front of another, or nowhere."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from core.errors import ModelFormatError
from core.files.paths import resolve_inside


class Files(ABC):
    """Where a checkpoint's files come from."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Every file, relative, with forward slashes, sorted."""

    @abstractmethod
    def path(self, name: str) -> Path:
        """A local path of one of `names()`."""

    @abstractmethod
    def folder(self, names: Iterable[str]) -> Path:
        """A local directory in which all of `names` lie at their relative places."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of one of `names()`, without fetching it; None where nothing tells."""

    def available(self, name: str) -> bool:
        """Whether one of `names()` can be had now; not so what was never downloaded, offline."""
        return True


class LocalFiles(Files):
    """The files of a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> tuple[str, ...]:
        found = []
        for folder, directories, files in os.walk(self.root):
            directories[:] = sorted(d for d in directories if not d.startswith("."))
            relative = Path(folder).relative_to(self.root)
            found += [(relative / name).as_posix() for name in files]
        return tuple(sorted(found))

    def path(self, name: str) -> Path:
        return resolve_inside(self.root, name)

    def folder(self, names: Iterable[str]) -> Path:
        for name in names:
            self.path(name)
        return self.root

    def size(self, name: str) -> int | None:
        return self.path(name).stat().st_size


class OverlayFiles(Files):
    """The files of a directory in front of another checkpoint's."""

    def __init__(self, front: Path, behind: Files) -> None:
        self.front, self.behind = LocalFiles(front), behind

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self.front.names(), *self.behind.names()}))

    def path(self, name: str) -> Path:
        if (self.front.root / name).exists():
            return self.front.path(name)
        return self.behind.path(name)

    def folder(self, names: Iterable[str]) -> Path:
        wanted = list(names)
        in_front = [name for name in wanted if (self.front.root / name).exists()]
        if not in_front:
            return self.behind.folder(wanted)
        if len(in_front) == len(wanted):
            return self.front.folder(wanted)
        # Runtimes that take a directory see both as one: links in a directory of their own,
        # because other processes read the front and may not be allowed to write to it.
        gathered = Path(tempfile.mkdtemp(prefix="core-checkpoint-"))
        weakref.finalize(self, shutil.rmtree, gathered, ignore_errors=True)
        for name in wanted:
            link = gathered / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.path(name).resolve())
        return gathered

    def size(self, name: str) -> int | None:
        front = (self.front.root / name).exists()
        return self.front.size(name) if front else self.behind.size(name)

    def available(self, name: str) -> bool:
        return (self.front.root / name).exists() or self.behind.available(name)


class NoFiles(Files):
    """For models that are not files (a server's)."""

    def names(self) -> tuple[str, ...]:
        return ()

    def path(self, name: str) -> Path:
        raise ModelFormatError(f"There is no file {name!r}: this model is not made of files.")

    def folder(self, names: Iterable[str]) -> Path:
        raise ModelFormatError("There is no folder: this model is not made of files.")

    def size(self, name: str) -> int | None:
        return None
