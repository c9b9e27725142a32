"""A model's files by name, and the configuration read from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from core.errors import ModelFormatError
from core.files.files import Files
from core.files.paths import check_relative
from core.files.pointers import check_fetched

#: Configuration files are small; a larger one is a mistake or an attack.
MAX_JSON_BYTES = 4_000_000

_JSON_NAMES = {dict: "object", list: "array", str: "string", int: "number", float: "number"}


class Source:
    """Files by name: all that reading a model's configuration and weights needs.

    Attributes:
        name: How messages call it; what the caller typed.
        files: Where the files come from.
    """

    def __init__(self, name: str, files: Files) -> None:
        self.name = name
        self.files = files

    def __str__(self) -> str:
        return self.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every file, relative, with forward slashes, sorted."""
        return self.files.names()

    def list_again(self, written: Iterable[str] | None = ()) -> None:
        """Forget the listing, after a file was added to the directory.

        Args:
            written: Files that are others now than before, which is right; None for all.
        """
        self.files.forget(written)
        self.__dict__.pop("names", None)

    def has(self, name: str) -> bool:
        """Whether the file is listed.

        Raises:
            ModelError: It lies in a folder that is a link out of the directory, or that this user
                may not read.
        """
        if name in self.names:
            return True
        self.files.check_absent(name)
        return False

    def available(self, name: str) -> bool:
        """Whether the file is listed and, offline, in the cache."""
        return self.has(name) and self.files.available(name)

    def path(self, name: str) -> Path:
        """A local path of the file, downloaded if necessary.

        Raises:
            ModelFormatError: The name leads outside, or there is no such file.
        """
        check_relative(name, f"a file of {self}")
        if not self.has(name):
            raise ModelFormatError(f"{self} has no file {name!r}.")
        return self.files.path(name)

    def folder(self, names: Iterable[str]) -> Path:
        """A local directory in which all of `names` lie at their relative places, to be opened."""
        wanted = list(names)
        for name in wanted:
            check_relative(name, f"a file of {self}")
            if not self.has(name):
                raise ModelFormatError(f"{self} has no file {name!r}.")
        folder = self.files.folder(wanted)
        for name in wanted:
            check_fetched(folder / name, f"{self}: {name}")
        return folder

    def size(self, name: str) -> int | None:
        """Bytes of a file, without fetching it; None if the Hub does not say."""
        return self.files.size(name)

    def read_json(self, name: str, *, kind: type = dict) -> Any:
        """A configuration file's content.

        Raises:
            ModelFormatError: Not JSON, over 4 MB, nested too deeply, or not a `kind`.
        """
        return read_json_file(self.path(name), f"{self}: {name}", kind=kind)

    def read_text(self, name: str) -> str:
        """The content of a small text file.

        Raises:
            ModelFormatError: Not UTF-8, or over 4 MB.
        """
        what = f"{self}: {name}"
        try:
            return _read_small(self.path(name), what, MAX_JSON_BYTES).decode()
        except UnicodeDecodeError as error:
            raise ModelFormatError(
                f"{what} is not a text in UTF-8 ({error}). Restore or download it again."
            ) from error


def read_json_file(path: Path, what: str, *, kind: type = dict, most: int = MAX_JSON_BYTES) -> Any:
    """The content of a small JSON file.

    Args:
        what: How messages call it.
        most: Bytes it may have.

    Raises:
        ModelFormatError: Not JSON, larger than that, nested too deeply, with half a character in a
            text, or not a `kind`.
    """
    raw = _read_small(path, what, most)
    try:
        content = json.loads(raw)
        if b"\\" in raw or not raw.isascii():  # half a character can be read, and never written
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(
            f"{what} is not readable JSON ({error}). Restore or download it again."
        ) from error
    if not isinstance(content, kind):
        raise ModelFormatError(
            f"{what} must hold a JSON {_JSON_NAMES[kind]}, "
            f"not {_JSON_NAMES.get(type(content), type(content).__name__)}."
        )
    return content


def _read_small(path: Path, what: str, most: int) -> bytes:
    size = path.stat().st_size
    if size > most:
        raise ModelFormatError(
            f"{what} has {size:,} bytes; a configuration file has at most {most:,}."
        )
    check_fetched(path, what)
    return path.read_bytes()
