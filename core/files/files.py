"""Where a model's files come from: a directory, one in front of another, or nowhere."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from core.errors import ModelFormatError
from core.files.held import Stamp, changed
from core.files.paths import closed_folder, resolve_inside


class Files(ABC):
    """Where a checkpoint's files come from."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Every file, relative, with forward slashes, sorted."""

    @abstractmethod
    def path(self, name: str) -> Path:
        """A local path of one of `names()`."""

    def peek(self, name: str) -> Path:
        """`path` for a look that leaves the file out of `used`: nothing is loaded from it."""
        return self.path(name)

    @abstractmethod
    def folder(self, names: Iterable[str]) -> Path:
        """A local directory in which all of `names` lie at their relative places."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of one of `names()`, without fetching it; None if it is unknown."""

    def check_absent(self, name: str) -> None:  # noqa: B027 - most have nothing to check
        """Raise `ModelError` where a name that is not listed may be there all the same: it leads
        out of the directory, or lies where this user may not look."""

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and time of one of `names()`, as it was first seen."""
        return Stamp.of(self.path(name)).content

    def used(self) -> dict[str, tuple[int, int]]:
        """`stamp` of every file that was asked for and may change; empty where none may."""
        return {}

    def forget(self, names: Iterable[str] | None) -> None:  # noqa: B027 - most never change
        """Take these files as they are from now on, after they were written; None for all."""

    def available(self, name: str) -> bool:
        """Whether one of `names()` is available now; offline, only what was downloaded is."""
        return True


class LocalFiles(Files):
    """The files of a directory, as they were when they were first listed.

    Attributes:
        root: Absolute and without links: it stays the same directory when the process changes its
            working directory, or a link to it is turned to another.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._stamps: dict[str, Stamp] = {}
        self._used: set[str] = set()
        self._outside: set[str] = set()
        self._closed: set[str] = set()

    def names(self) -> tuple[str, ...]:
        found = []
        followed: set[Path] = set()
        waiting = [_Folder(self.root, "", (self.root,), linked=False)]
        while waiting:
            folder = waiting.pop()
            try:
                entries = _entries(folder.path)
            except PermissionError:
                self._closed.add(folder.prefix)
                continue
            for entry in entries:
                name = folder.prefix + entry.name
                if not _is_directory(entry):
                    found.append(name)
                    with suppress(OSError):  # a link to nothing
                        self._stamps.setdefault(name, Stamp.of(Path(entry.path)))
                elif entry.name.startswith("."):
                    continue
                elif not entry.is_symlink():
                    waiting.append(folder.inner(name, Path(entry.path), linked=folder.linked))
                else:
                    real = Path(entry.path).resolve()
                    if not real.is_relative_to(self.root):
                        self._outside.add(f"{name}/")
                    # Links to links are followed once each: many of them could name no end of
                    # paths.
                    elif real not in folder.ancestors and not (folder.linked and real in followed):
                        followed.add(real)
                        waiting.append(folder.inner(name, real, linked=True))
        return tuple(sorted(found))

    def path(self, name: str) -> Path:
        path = self.peek(name)
        self._used.add(name)
        return path

    def peek(self, name: str) -> Path:
        path = resolve_inside(self.root, name)
        try:
            now = Stamp.of(path)
        except OSError:
            now = None
        known = self._stamps.get(name)
        if known is None and now is not None:
            self._stamps[name] = now
        elif known is not None and (now is None or not now.is_same_as(known)):
            raise changed(path, self.root)
        return path

    def check_absent(self, name: str) -> None:
        if any(name.startswith(folder) for folder in self._outside):
            resolve_inside(self.root, name)
        for folder in self._closed:
            if name.startswith(folder):
                raise closed_folder(self.root / folder)

    def stamp(self, name: str) -> tuple[int, int]:
        if name not in self._stamps:
            self.path(name)
        self._used.add(name)
        return self._stamps[name].content

    def used(self) -> dict[str, tuple[int, int]]:
        known = self._used & self._stamps.keys()
        return {name: self._stamps[name].content for name in sorted(known)}

    def forget(self, names: Iterable[str] | None) -> None:
        for name in list(self._stamps) if names is None else names:
            self._stamps.pop(name, None)

    def folder(self, names: Iterable[str]) -> Path:
        for name in names:
            self.path(name)
        return self.root

    def size(self, name: str) -> int | None:
        return self.path(name).stat().st_size


class _Folder(NamedTuple):
    """A folder to be listed: where it is, what its files' names begin with, and whether a link
    led to it or to a folder around it."""

    path: Path
    prefix: str
    ancestors: tuple[Path, ...]
    linked: bool

    def inner(self, name: str, path: Path, *, linked: bool) -> _Folder:
        return _Folder(path, f"{name}/", (*self.ancestors, path), linked)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        raise
    except OSError:  # it is gone
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


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

    def peek(self, name: str) -> Path:
        front = (self.front.root / name).exists()
        return self.front.peek(name) if front else self.behind.peek(name)

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

    def check_absent(self, name: str) -> None:
        self.behind.check_absent(name)

    def stamp(self, name: str) -> tuple[int, int]:
        front = (self.front.root / name).exists()
        return self.front.stamp(name) if front else self.behind.stamp(name)

    def used(self) -> dict[str, tuple[int, int]]:
        return self.behind.used()

    def forget(self, names: Iterable[str] | None) -> None:
        self.behind.forget(names)

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
