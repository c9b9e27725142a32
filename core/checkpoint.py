"""A name becomes files: local directory, offline cache and Hub obey the same rules.

A `Checkpoint` is a list of file names and a way to get each as a local path. Which of them a
backend loads is decided from the list alone (`core.file_choice`), so the rule is the same wherever
the list came from.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from core.errors import ModelError, ModelFormatError, ModelNotFound, OptionError
from core.staging import recover, recover_inside

if TYPE_CHECKING:
    from core.architecture import Architecture

#: Configuration files are small; a larger one is a mistake or an attack.
MAX_JSON_BYTES = 4_000_000

#: Files at the top of a directory that make it a model.
MODEL_MARKERS = (
    "modules.json",
    "config_sentence_transformers.json",
    "config.json",
    "adapter_config.json",
)

_REPOSITORY = re.compile(r"[\w.\-]+(/[\w.\-]+)?")


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


class Checkpoint:
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
        self.name = name
        self.files = files
        self.repo_id = repo_id
        self.commit = commit
        self.arguments = arguments or {}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self)!r})"

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:8]}" if self.commit else self.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every file of the checkpoint, relative, with forward slashes, sorted."""
        return self.files.names()

    def list_again(self) -> None:
        """Forget the listing, after a file was added to the directory."""
        self.__dict__.pop("names", None)

    @cached_property
    def architecture(self) -> Architecture:
        """What the checkpoint computes, read once from its configuration files."""
        from core.architecture import read_architecture

        return read_architecture(self)

    @property
    def directory(self) -> Path | None:
        """The directory the caller named, whatever lies in front of it; None for a repository."""
        files = self.files
        while isinstance(files, OverlayFiles):
            files = files.behind
        return files.root if isinstance(files, LocalFiles) else None

    def has(self, name: str) -> bool:
        """Whether the checkpoint lists the file."""
        return name in self.names

    def path(self, name: str) -> Path:
        """A local path of the file, downloaded if need be.

        Raises:
            ModelFormatError: The name leads out of the checkpoint, or there is no such file.
        """
        check_relative(name, f"a file of {self}")
        if not self.has(name):
            raise ModelFormatError(f"{self} has no file {name!r}.")
        return self.files.path(name)

    def folder(self, names: Iterable[str]) -> Path:
        """A local directory in which all of `names` lie at their relative places."""
        wanted = list(names)
        for name in wanted:
            check_relative(name, f"a file of {self}")
            if not self.has(name):
                raise ModelFormatError(f"{self} has no file {name!r}.")
        return self.files.folder(wanted)

    def size(self, name: str) -> int | None:
        """Bytes of a file, without fetching it; None where the Hub does not tell."""
        return self.files.size(name)

    def read_json(self, name: str, *, kind: type = dict) -> Any:
        """A configuration file's content.

        Raises:
            ModelFormatError: Not JSON, over 4 MB, nested too deeply, or not a `kind`.
        """
        path = self.path(name)
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ModelFormatError(
                f"{self}: {name} has {size:,} bytes; a configuration file has at most "
                f"{MAX_JSON_BYTES:,}."
            )
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ModelFormatError(
                f"{self}: {name} is not readable JSON ({error}). Restore or download it again."
            ) from error
        if not isinstance(content, kind):
            raise ModelFormatError(
                f"{self}: {name} must hold a JSON {_JSON_NAMES[kind]}, "
                f"not {_JSON_NAMES.get(type(content), type(content).__name__)}."
            )
        return content

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


_JSON_NAMES = {dict: "object", list: "array", str: "string", int: "number", float: "number"}


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Turn what the user typed into a checkpoint.

    A directory is local; `name` means `sentence-transformers/name` on the Hub and `owner/name`
    that repository.

    Raises:
        ModelNotFound: Neither a directory nor a possible repository, or no such repository.
    """
    if not isinstance(name, str | os.PathLike):
        raise OptionError(
            f"A model is named by a directory or a repository, not by {type(name).__name__} "
            f"{name!r}."
        )
    text = os.fspath(name)
    if not isinstance(text, str) or not text or "\0" in text:
        raise OptionError(f"{text!r} is not the name of a model.")
    path = Path(text).expanduser()
    recover(path)
    if path.is_dir():
        # Where its code lies in another repository, these tell how to get that.
        arguments = {"cache_dir": cache_dir, "local_files_only": local_files_only or None}
        return _open_directory(text, path, {n: v for n, v in arguments.items() if v is not None})
    if path.exists():
        raise ModelNotFound(f"{text!r} is a file. {_advice_for_file(path)}")
    if isinstance(name, Path) or not _REPOSITORY.fullmatch(text) or text.startswith((".", "-")):
        raise ModelNotFound(
            f"There is no directory {text!r} (seen from {str(Path.cwd())!r}), and it cannot be a "
            "Hub repository, whose name reads 'owner/name'. Check the path."
            f"{_similar_directory(path)}"
        )
    from core.hub import open_repository

    try:
        return open_repository(
            text,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    except ModelError as error:
        hint = _similar_directory(path)
        if not hint:
            raise
        raise type(error)(f"There is no directory {text!r} here.{hint} {error}") from error


def _advice_for_file(path: Path) -> str:
    """Which directory to give for a file in it or below it."""
    # modules.json first: a module's folder inside the model has a config.json, too.
    for marker, folder in itertools.product(MODEL_MARKERS, path.parents):
        if (folder / marker).is_file():
            name = path.relative_to(folder).as_posix()
            return f"Give the model's directory, {str(folder)!r}, and file_name={name!r}."
    return f"Give the directory of a model; {str(path.parent)!r} is none."


def _similar_directory(path: Path) -> str:
    """A directory beside `path` that the caller may have meant."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.8)
    if not close:
        return ""
    return f" There is a directory {str(path.with_name(close[0]))!r}: did you mean that?"


def _open_directory(text: str, path: Path, arguments: dict[str, Any]) -> Checkpoint:
    recover_inside(path)
    files = LocalFiles(path)
    # A directory of model2vec or of a bare transformer has one of these as well.
    if not any((path / marker).is_file() for marker in MODEL_MARKERS):
        names = files.names()
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise ModelNotFound(
            f"The directory {text!r} holds no model: none of {', '.join(MODEL_MARKERS)} is in it "
            f"(it holds: {listed or 'nothing'}). Give the directory a model was saved to."
        )
    return Checkpoint(text, files, arguments=arguments)


def check_relative(name: str, what: str) -> None:
    """Raise `ModelFormatError` for a name that is absolute or climbs with `..`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None
    if absolute or ".." in parts or "\0" in name:
        raise ModelFormatError(
            f"{name!r}, named as {what}, points outside the model's directory. core reads only "
            "files inside it; do not use this model unless you trust where it is from."
        )


def resolve_inside(root: Path, name: str) -> Path:
    """`root / name`, unless it or a link in it leads outside `root`.

    The Hub cache is the one exception: its snapshots are links into `blobs` of the same
    repository or of the whole cache.

    Raises:
        ModelFormatError: It leads outside, or is no plain file (a pipe would block for good).
        ModelError: This user may not read it.
    """
    check_relative(name, f"a file of {root}")
    path = root / name
    real, inside = path.resolve(), root.resolve()
    if not real.is_relative_to(inside) and not _in_hub_cache(real, inside):
        raise ModelFormatError(
            f"{path} is a link to {real}, outside the model's directory. core reads only files "
            "inside it; replace the link by the file if you trust it."
        )
    if path.is_symlink() and not real.exists():
        raise ModelFormatError(
            f"{path} is a link to {real}, which is gone. Download or copy the file again."
        )
    if real.exists() and not stat.S_ISREG(real.stat().st_mode):
        raise ModelFormatError(f"{path} is no plain file. Replace it by the file it stands for.")
    if real.exists() and not os.access(real, os.R_OK):
        raise ModelError(f"{path} may not be read by this user. Give access: `chmod a+r {path}`.")
    return path


def _in_hub_cache(real: Path, snapshot: Path) -> bool:
    if snapshot.parent.name != "snapshots":
        return False
    repository, cache = snapshot.parents[1], snapshot.parents[2]
    return real.is_relative_to(repository / "blobs") or real.is_relative_to(cache / "blobs")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
