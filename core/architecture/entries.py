"""modules.json: the modules of a model, by class and folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from core.errors import ModelFormatError, UnsupportedOperation
from core.files.paths import check_relative
from core.files.source import Source

#: Where a Router lists its modules, newest name first.
ROUTER_CONFIGS = ("router_config.json", "config.json")


def module_types(source: Source) -> list[tuple[str, str, str]]:
    """(package, class, folder) of every module that runs, as modules.json lists them.

    Of two modules of one name the last runs, in the place of the first, as in the reference.

    Raises:
        ModelFormatError: It is empty, or an entry is not one.
    """
    entries = source.read_json("modules.json", kind=list)
    if not entries:
        raise ModelFormatError(f"{source}: modules.json is empty.")
    found: dict[Any, tuple[str, str, str]] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise ModelFormatError(
                f"{source}: modules.json has an entry without a type: {entry!r}."
            )
        path = entry.get("path", "")
        if not isinstance(path, str):
            raise ModelFormatError(f"{source}: modules.json has the path {path!r}.")
        check_relative(path, f"a module in modules.json of {source}")
        folder = PurePosixPath(path.replace("\\", "/")).as_posix()
        package, _, kind = entry["type"].rpartition(".")
        name = entry.get("name")
        key = name if isinstance(name, str) else position
        found[key] = (package, kind, "" if folder == "." else folder)
    return list(found.values())


def router_config(source: Source, folder: str) -> dict[str, Any]:
    """The configuration of a Router that lies in a folder: router_config.json, or its older name.

    Raises:
        ModelFormatError: It is missing, or does not name modules and routes.
    """
    names = [f"{folder}/{name}" if folder else name for name in ROUTER_CONFIGS]
    name = next((name for name in names if source.has(name)), None)
    if name is None:
        raise ModelFormatError(
            f"{source}: modules.json names a Router, and {names[0]}, which lists its modules, is "
            "missing. Restore or download it again."
        )
    content: dict[str, Any] = source.read_json(name)
    types, structure = content.get("types"), content.get("structure")
    right = (
        isinstance(types, dict)
        and all(isinstance(kind, str) for kind in types.values())
        and isinstance(structure, dict)
        and all(
            isinstance(listed, list) and listed and all(entry in types for entry in listed)
            for listed in structure.values()
        )
    )
    if not right or not structure:
        raise ModelFormatError(
            f"{source}: {name} must map folders to classes in `types`, and routes to lists of "
            "those folders in `structure`. Restore or download it again."
        )
    return content


def router_types(source: Source, folder: str) -> list[tuple[str, str, str]]:
    """(package, class, folder) of every module of a Router that lies in a folder."""
    parsed = []
    for name, kind in router_config(source, folder)["types"].items():
        path = f"{folder}/{name}" if folder else name
        check_relative(path, f"a module of the Router of {source}")
        package, _, kind = kind.rpartition(".")
        parsed.append((package, kind, path))
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
