"""modules.json: the modules of a model, by class and folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from core.errors import ModelFormatError, UnsupportedOperation
from core.files.paths import check_relative
from core.files.source import Source


def module_types(source: Source) -> list[tuple[str, str, str]]:
    """(package, class, folder) of every module, as modules.json lists them.

    Raises:
        ModelFormatError: It is empty, or an entry is not one.
    """
    entries = source.read_json("modules.json", kind=list)
    if not entries:
        raise ModelFormatError(f"{source}: modules.json is empty.")
    parsed: list[tuple[str, str, str]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise ModelFormatError(
                f"{source}: modules.json has an entry without a type: {entry!r}."
            )
        path = entry.get("path", "")
        if not isinstance(path, str):
            raise ModelFormatError(f"{source}: modules.json has the path {path!r}.")
        check_relative(path, f"a module in modules.json of {source}")
        folder = PurePosixPath(path.replace("\\", "/")).as_posix()
        package, _, name = entry["type"].rpartition(".")
        parsed.append((package, name, "" if folder == "." else folder))
    return parsed


def read_entries(source: Source, known: Sequence[str]) -> list[tuple[str, str]]:
    """(class, folder) of every module; each is one of the `known` classes.

    Raises:
        UnsupportedOperation: Another class, by its name.
    """
    entries = []
    for package, name, folder in module_types(source):
        if package.split(".")[0] != "sentence_transformers":
            kind = f"{package}.{name}" if package else name
            raise UnsupportedOperation(
                f"{source}: modules.json names {kind!r}, code that comes with the model. core "
                "never runs custom modules, with or without trust_remote_code; it runs "
                f"{', '.join(known)}."
            )
        if name not in known:
            raise unknown_module(source, name, known)
        entries.append((name, folder))
    return entries


def unknown_module(source: Source, name: str, known: Sequence[str]) -> UnsupportedOperation:
    """The error for a module that is not run here."""
    return UnsupportedOperation(
        f"{source} has a module of type {name}, which core does not run. It runs "
        f"{', '.join(known)}."
    )
