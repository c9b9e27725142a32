"""`core new-backend`: a package of a backend that installs and passes the conformance suite."""

from __future__ import annotations

import keyword
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from core.artifacts.tuned import TUNED
from core.errors import OptionError
from core.files.staging import explained_writes
from core.plugin.hookspecs import SPEC_VERSION
from core.plugin.known_backends import INSTALL_COMMANDS
from core.plugin.registry import registry
from core.version import __version__

_SUFFIX = ".template"


def write_backend(name: str, directory: Path | None = None, *, checkpoint: bool = False) -> Path:
    """Write a package for the backend `name`; returns its directory.

    Args:
        name: As users will type it: lower-case letters, digits, `-` and `_`.
        directory: None for `core-<name>-backend` under the working directory.
        checkpoint: Of a backend that loads the files of models, rather than a name.

    Raises:
        OptionError: The name cannot be one, or the directory is not empty.
    """
    package = name.replace("-", "_") + "_backend"
    readable = name.replace("-", "").replace("_", "")
    plain = readable.isascii() and readable.isalnum() and name == name.lower()
    if not plain or not package.isidentifier():
        raise OptionError(
            f"A backend's name takes lower-case letters, digits, - and _, and begins with a "
            f"letter; {name!r} does not."
        )
    if keyword.iskeyword(name):
        raise OptionError(f"{name!r} is a word of Python itself. Choose another name.")
    if name == TUNED:
        raise OptionError(f"backend={name!r} loads what `core tune` chose. Choose another name.")
    if name in {*INSTALL_COMMANDS, *registry.names()}:
        raise OptionError(f"There is a backend {name!r} already. Choose another name.")
    target = Path(f"core-{name}-backend") if directory is None else directory
    with explained_writes(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OptionError(f"{str(target)!r} exists and is not empty. Choose another directory.")
    values = {
        "name": name,
        "package": package,
        "class": "".join(part.capitalize() for part in package.split("_")),
        "spec_version": str(SPEC_VERSION),
        "core_version": ".".join(__version__.split(".")[:2]),
        "next_version": f"0.{int(__version__.split('.')[1]) + 1}",
    }
    templates = files("core.scaffold") / "template"
    with explained_writes(target):
        for template in ("common", "checkpoint" if checkpoint else "name"):
            _write(templates / template, target, values)
    return target


def _write(source: Traversable, target: Path, values: dict[str, str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        name = entry.name.replace("package", values["package"])
        if entry.is_dir():
            _write(entry, target / name, values)
        elif name.endswith(_SUFFIX):
            text = entry.read_text(encoding="utf-8")
            for key, value in values.items():
                text = text.replace(f"<<{key}>>", value)
            (target / name.removesuffix(_SUFFIX)).write_text(text, encoding="utf-8")
