"""Files of a job, on the local disk or behind any fsspec URL."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.arguments import check_unicode_path
from core.errors import CoreError, OptionError
from core.machine.surroundings import temporary_directory


class Folder:
    """A directory that files are listed in, read from and put into, each whole or not at all.

    Args:
        location: A local path, or a URL that fsspec knows (`s3://bucket/path`, `memory://x`).
        what: Names it in messages.

    Raises:
        OptionError: fsspec has no such file system, or lacks the package it needs.
    """

    def __init__(self, location: str | os.PathLike[str], what: str) -> None:
        import fsspec
        from fsspec.core import url_to_fs

        text = os.fspath(location) if isinstance(location, str | os.PathLike) else None
        if not isinstance(text, str) or not text or "\0" in text:
            raise OptionError(f"{what} must be a path or a URL, not {location!r}.")
        self.location = text
        self.what = what
        try:
            if "://" in text:
                self._system, root = url_to_fs(text)
            else:  # whose "::" is a name's, and separates no file systems
                self._system = fsspec.filesystem("file")
                root = Path(text).expanduser().absolute().as_posix()
        except Exception as error:  # whatever the libraries of a file system raise
            raise OptionError(f"{what} {text!r} cannot be opened: {error}") from error
        self.root: str = str(root).rstrip("/") or "/"
        self.local = "file" in _protocols(self._system)
        #: Where it is: `root` without links and "..".
        self.place = os.path.realpath(self.root) if self.local else self.root
        if self.local and what == "target":
            check_unicode_path(what, Path(self.root))

    def __repr__(self) -> str:
        return f"{self.what} {self.location!r}"

    def files(self, below: str = "") -> list[tuple[str, int]]:
        """Names, relative to the directory, and sizes in bytes, sorted; [] where there is none."""
        top = self.path(below)
        with self._explained("listed"):
            self._system.invalidate_cache()
            if self._system.isfile(top):
                return [("", int(self._system.size(top)))]
            if not self._system.isdir(top):
                return []
            found = self._system.find(top, detail=True)
        return sorted(
            (name.removeprefix(top).lstrip("/"), int(info["size"])) for name, info in found.items()
        )

    def exists(self) -> bool:
        """Whether it is there, as a file or as a directory."""
        with self._explained("looked at"):
            return bool(self._system.exists(self.root))

    def path(self, name: str) -> str:
        """A name as its file system has it."""
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file to read bytes from."""
        shown = f"read ({name})" if name else "read"
        with self._explained(shown), self._system.open(self.path(name), "rb") as file:
            yield file

    def read_json(self, name: str) -> Any:
        """The value of a JSON file.

        Raises:
            CoreError: It is no JSON.
        """
        with self.open(name) as file:
            content = file.read()
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CoreError(f"{self!r}: {name} is not JSON ({error}).") from error

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path to write to; what is there afterwards takes the file's place, whole."""
        with self._explained(f"written ({name})"):
            if self.local:
                target = Path(self.path(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
                try:
                    yield partial
                    with partial.open("rb") as written:
                        os.fsync(written.fileno())
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
                return
            with temporary_directory("core-batch-") as folder:
                partial = Path(folder, "part")
                yield partial
                # What object stores take appears whole; elsewhere it is moved into its place.
                beside = f"{self.path(name)}.{uuid.uuid4().hex[:8]}.partial"
                self._system.makedirs(self._system._parent(beside), exist_ok=True)
                try:
                    self._system.put_file(str(partial), beside)
                    self._system.mv(beside, self.path(name))
                except BaseException:
                    with suppress(Exception):
                        self._system.rm(beside)
                    raise

    def write_json(self, name: str, value: Any) -> None:
        """Put a JSON file, whole; in ASCII, for names of files that are not UTF-8."""
        with self.writing(name) as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n", "ascii")

    def create(self, below: str = "") -> None:
        """Make the directory, or one below it, where it is not there."""
        if self._system.isfile(self.root):
            raise OptionError(f"{self!r} is a file: give a directory.")
        with self._explained("written"):
            self._system.makedirs(self.path(below), exist_ok=True)

    def remove(self, names: list[str]) -> None:
        """Remove these files."""
        with self._explained("cleared"):
            for name in names:
                self._system.rm(self.path(name))

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except CoreError:
            raise
        except Exception as error:
            if self.local and not isinstance(error, OSError):
                raise  # the others raise errors of the libraries that they are made of
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CoreError(f"{self!r} cannot be {done}: {why}.") from error


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
