"""Which paths the page may read and write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import CoreError, OptionError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Roots:
    """Directories the page may use, links resolved.

    Attributes:
        writable: May be read and written; relative paths start in the first.
        cache: The Hub's, which may be read.
    """

    writable: tuple[Path, ...]
    cache: Path

    @classmethod
    def of(cls, directories: Iterable[Path]) -> Roots:
        """Of existing directories.

        Raises:
            OptionError: One is none.
        """
        found = []
        for directory in directories:
            if not directory.is_dir():
                raise OptionError(f"--root {directory} is not a directory.")
            found.append(directory.resolve())
        from huggingface_hub.constants import HF_HUB_CACHE

        return cls(tuple(found), Path(HF_HUB_CACHE).resolve())

    def model(self, text: str) -> str:
        """A directory's absolute path, or a name on the Hub as it is.

        What lies in the directory needs no look here: `core` follows no link out of a model.

        Raises:
            OptionError: Nothing is given, or the path leads outside.
        """
        text = text.strip()
        if not text:
            raise OptionError("Name a model: a directory, or owner/name on the Hub.")
        if text.startswith("https://"):
            return text
        place = self.writable[0] / text
        path = self._inside(place, (*self.writable, self.cache))
        if not os.path.lexists(place) and _HUB_NAME.fullmatch(text):
            return text
        return str(path)

    def file(self, text: str) -> Path:
        """An existing file that may be read.

        Raises:
            OptionError: There is none, or it lies outside.
        """
        path = self._inside(self.writable[0] / text.strip(), (*self.writable, self.cache))
        if not path.is_file():
            raise OptionError(f"There is no file {text.strip()!r}.")
        return path

    def target(self, text: str) -> str:
        """A directory to write to, as an absolute path; it need not exist.

        Raises:
            OptionError: Nothing is given, or the path or a folder in it leads outside.
            CoreError: The directory cannot be read.
        """
        if not text.strip():
            raise OptionError("Name a directory to write to.")
        path = self._inside(self.writable[0] / text.strip(), self.writable)
        # Artifacts lie at the top of a model's directory or one folder below.
        try:
            for folder in (path, *_folders(path)):
                for inner in _links(folder):
                    self._inside(inner, self.writable)
        except OSError as error:
            raise CoreError(f"Cannot read {path}: {error.strerror or error}.") from error
        return str(path)

    def _inside(self, path: Path, allowed: tuple[Path, ...]) -> Path:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links; a zero byte
            raise OptionError(f"{str(path)!r} is not a path: {error}.") from error
        if any(resolved.is_relative_to(root) for root in allowed):
            return resolved
        listed = ", ".join(map(str, allowed))
        raise OptionError(
            f"{path} is outside of what this page may use ({listed}). "
            "Start `core ui` with --root DIRECTORY to allow another."
        )


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []


def _links(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_symlink()] if folder.is_dir() else []
