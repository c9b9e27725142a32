"""A model's files at one revision: local directory, offline cache and Hub obey the same rules.

A `Checkpoint` is a list of file names and a way to get each as a local path. Which of them a
backend loads is decided from the list alone (`core.operations.file_choice`), so the rule is the
same wherever the list came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.reading import read_architecture
from core.files.files import Files, LocalFiles, OverlayFiles
from core.files.fingerprint import seen
from core.files.held import changed
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
        kind: What to read it as, of `core.architecture.kinds.KINDS`; None for its own kind.
    """

    def __init__(
        self,
        name: str,
        files: Files,
        *,
        repo_id: str | None = None,
        commit: str | None = None,
        arguments: dict[str, Any] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(name, files)
        self.kind = kind
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
        return read_architecture(self, kind=self.kind)

    def read_as(self, kind: str | None) -> Checkpoint:
        """The same files as a model of this kind; None for their own."""
        if kind == self.kind:
            return self
        return Checkpoint(
            self.name,
            self.files,
            repo_id=self.repo_id,
            commit=self.commit,
            arguments=self.arguments,
            kind=kind,
        )

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
        return self.name if directory is None else str(directory), dict(self.arguments)

    def used(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file of a directory that was read; empty for a repository."""
        return self.files.used() if self.names else {}

    def check_unchanged(self, used: Mapping[str, tuple[int, int]]) -> None:
        """Raise `ModelError` unless these files are what they were, as `used` told."""
        for name, stamp in used.items():
            if not self.has(name) or self.files.stamp(name) != stamp:
                raise changed((self.directory or Path(self.name)) / name, "the model")

    def overlay(self, front: Path) -> Checkpoint:
        """This checkpoint with the files of `front` before its own."""
        return Checkpoint(
            self.name,
            OverlayFiles(front, self.files),
            repo_id=self.repo_id,
            commit=self.commit,
            arguments=self.arguments,
            kind=self.kind,
        )

    @property
    def readable_name(self) -> str:
        """The repository, or the name of the directory without those around it."""
        return self.repo_id or (self.directory or Path(self.name).resolve()).name

    def identity(self, weights: Iterable[str] = ()) -> dict[str, Any]:
        """What a sidecar records of its source: name, commit, digests of the weight files."""
        paths = {name: self.path(name) for name in weights}
        return {
            "name": self.readable_name,
            "commit": self.commit,
            "sha256": {name: sha256_of(path) for name, path in paths.items()},
            "seen": {name: seen(path) for name, path in paths.items()},
        }


def source_identity(source: Checkpoint, names: Iterable[str] | None = None) -> Any:
    """A repository's name and commit; a directory's path with each file's size and time.

    A directory has no commit, and hashing gigabytes at every load would cost more than it is
    worth: a file that was rewritten counts as another one.

    Args:
        names: The files that count; None for all.
    """
    if source.commit is not None or not source.names:
        return [source.repo_id or source.name, source.commit]
    counting = source.names if names is None else names
    where = str(source.directory or expand_home(source.name).resolve())
    # As they were when the checkpoint was opened: that is what was loaded.
    return [where, [(name, *source.files.stamp(name)) for name in counting]]
