"""What the user typed becomes a checkpoint: a directory, or a repository of the Hub."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from pathlib import Path
from typing import Any

from core.arguments import check_unicode_path
from core.checkpoint.checkpoint import Checkpoint
from core.errors import (
    ModelError,
    ModelNotFound,
    OptionError,
)
from core.files.files import Files, LocalFiles, NoFiles
from core.files.paths import closed_folder
from core.files.staging import recover, recover_inside
from core.hub.address import is_address, read_address
from core.hub.download import open_repository
from core.machine.surroundings import expand_home
from core.options import check_flag


def named_only(name: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint without files, for backends whose models are not files."""
    if not isinstance(name, str | os.PathLike) or not (name := os.fspath(name)):
        raise OptionError(f"A model is named by a string, not {name!r}.")
    return Checkpoint(name, NoFiles())


#: Files at the top of a directory that make it a model.
MODEL_MARKERS = (
    "modules.json",
    "config_sentence_transformers.json",
    "config.json",
    "adapter_config.json",
)

_REPOSITORY = re.compile(r"[\w.\-]+(/[\w.\-]+)?")


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
    that repository, as does its address in a browser.

    Raises:
        ModelNotFound: Neither a directory nor a possible repository, or no such repository.
    """
    check_flag("local_files_only", local_files_only)
    if not isinstance(name, str | os.PathLike):
        raise OptionError(
            f"A model is named by a directory or a repository, not by {type(name).__name__} "
            f"{name!r}."
        )
    text = os.fspath(name)
    if not isinstance(text, str) or not text or "\0" in text:
        raise OptionError(f"{text!r} is not the name of a model.")
    if is_address(text):
        repo_id, revision = read_address(text, revision)
        return _open_repository(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    path = expand_home(text)
    recover(path)
    if _is_directory(path, text):
        check_unicode_path("The model's directory", path)
        # Where its code lies in another repository, these tell how to get that.
        arguments = {
            "cache_dir": None if cache_dir is None else _absolute(cache_dir),
            "local_files_only": local_files_only or None,
        }
        return _open_directory(text, path, {n: v for n, v in arguments.items() if v is not None})
    if path.exists():
        raise ModelNotFound(f"{text!r} is a file. {_advice_for_file(path)}")
    if path.is_symlink():
        raise ModelNotFound(
            f"{text!r} is a link to {str(path.readlink())!r}, where nothing is. Mend the link, or "
            "give the directory it was to lead to."
        )
    if isinstance(name, Path) or not _REPOSITORY.fullmatch(text) or text.startswith((".", "-")):
        raise ModelNotFound(
            f"There is no directory {text!r} ({_seen_from()}), and it cannot be a "
            "Hub repository, whose name reads 'owner/name'. Check the path."
            f"{_similar_directory(path)}"
        )
    try:
        return _open_repository(
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


def _open_repository(
    name: str,
    *,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> Checkpoint:
    files = open_repository(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    # What another tool cached may be a part of it.
    if files.listing.complete and not set(MODEL_MARKERS) & set(files.names()):
        raise ModelNotFound(
            f"The repository {files.repository} {_no_model(files)}. Name the repository of a model."
        )
    commit = files.listing.commit
    arguments: dict[str, Any] = {"revision": commit, "local_files_only": local_files_only}
    if cache_dir is not None:
        arguments["cache_dir"] = _absolute(cache_dir)
    return Checkpoint(
        name, files, repo_id=files.repository.repo_id, commit=commit, arguments=arguments
    )


def _is_directory(path: Path, shown: str) -> bool:
    try:
        return path.is_dir()
    except PermissionError as error:
        way = reversed((path, *path.parents))
        closed = next((folder for folder in way if not os.access(folder, os.X_OK)), path)
        raise ModelNotFound(
            f"Cannot look for a directory {shown!r}: {error.strerror}. This user may not enter "
            f"{str(closed)!r}. Give access: `chmod a+x {closed}`."
        ) from error
    except OSError as error:  # other than that there is none
        raise ModelNotFound(
            f"Cannot look for a directory {shown!r}: {error.strerror}. Check the path."
        ) from error


def _seen_from() -> str:
    try:
        return f"seen from {str(Path.cwd())!r}"
    except FileNotFoundError:
        return "seen from a working directory that is gone"


def _absolute(path: str | os.PathLike[str]) -> str:
    """The same place from any working directory."""
    return str(Path(path).expanduser().absolute())


def _advice_for_file(path: Path) -> str:
    """Which directory to give for a file in it or below it."""
    # modules.json first: a module's folder inside the model has a config.json, too.
    for marker, folder in itertools.product(MODEL_MARKERS, path.parents):
        if (folder / marker).is_file():
            name = path.relative_to(folder).as_posix()
            return f"Give the model's directory, {str(folder)!r}, and file_name={name!r}."
    return f"Give the directory of a model; {str(path.parent)!r} is not one."


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
    try:
        is_model = any((path / marker).is_file() for marker in MODEL_MARKERS)
    except PermissionError as error:
        raise closed_folder(path) from error
    if not is_model:
        raise ModelNotFound(
            f"The directory {text!r} {_no_model(files)}. Give the directory a model was saved to."
        )
    return Checkpoint(text, files, arguments=arguments)


def _no_model(files: Files) -> str:
    names = files.names()
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return (
        f"holds no model: none of {', '.join(MODEL_MARKERS)} is in it (it holds: "
        f"{listed or 'nothing'})"
    )
