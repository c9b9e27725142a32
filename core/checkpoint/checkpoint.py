"""A model's files at one revision: local directory, offline cache and Hub obey the same rules.

A `Checkpoint` is a list of file names and a way to get each as a local path. Which of them a
backend loads is decided from the list alone (`core.operations.file_choice`), so the rule is the
same wherever the list came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.reading import read_architecture
from core.files.files import Files, LocalFiles, OverlayFiles
from core.files.paths import sha256_of
from core.files.source import Source
from core.machine.surroundings import expand_home


class Checkpoint(Source):
    """A model's files, and where they are from.

    Attributes:
        name: What the caller typed.
        repo_id: The Hub repository, or None for a directory.
        commit: The commit all files come from, or None for a directory.
        arguments: What is needed to resolve the same checkpoint again (token excluded).
    """

    def __init__(
        self,
        name: str,
        files: Files,
        *,
        repo_id: str | None = None,
        commit: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(name, files)
        self.repo_id = repo_id
        self.commit = commit
        self.arguments = arguments or {}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self)!r})"

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:8]}" if self.commit else self.name

    @cached_property
    def architecture(self) -> Architecture:
        """What the checkpoint computes, read once from its configuration files."""
        return read_architecture(self)

    @property
    def directory(self) -> Path | None:
        """The directory the caller named, whatever lies in front of it; None for a repository."""
        files = self.files
        while isinstance(files, OverlayFiles):
            files = files.behind
        return files.root if isinstance(files, LocalFiles) else None

    @property
    def location(self) -> tuple[str, dict[str, Any]]:
        """What `resolve` takes to find the same files again, from any working directory."""
        directory = self.directory
        name = self.name if directory is None else str(directory.absolute())
        return name, dict(self.arguments)

    def overlay(self, front: Path) -> Checkpoint:
        """This checkpoint with the files of `front` before its own."""
        return Checkpoint(
            self.name,
            OverlayFiles(front, self.files),
            repo_id=self.repo_id,
            commit=self.commit,
            arguments=self.arguments,
        )

    def identity(self, weights: Iterable[str] = ()) -> dict[str, Any]:
        """What a sidecar records of its source: name, commit, sha256 of the weight files."""
        return {
            "name": self.repo_id or Path(self.name).resolve().name,
            "commit": self.commit,
            "sha256": {name: sha256_of(self.path(name)) for name in weights},
        }


def source_identity(source: Checkpoint, names: Iterable[str] | None = None) -> Any:
    """A repository's name and commit; a directory's path with each file's size and time.

    A directory has no commit, and hashing gigabytes at every load would cost more than it is
    worth: a file that was written anew counts as another one.

    Args:
        names: The files that count; None for all.
    """
    if source.commit is not None or not source.names:
        return [source.repo_id or source.name, source.commit]
    counting = source.names if names is None else names
    stats = [(name, source.path(name).stat()) for name in counting]
    where = str((source.directory or expand_home(source.name)).resolve())
    return [where, [(name, s.st_size, s.st_mtime_ns) for name, s in stats]]
