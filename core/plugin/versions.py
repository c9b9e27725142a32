"""The distributions that a backend runs on, and their versions."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from core.machine.surroundings import is_frozen
from core.plugin.registry import registry
from core.version import __version__

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_EXTRA = re.compile(r"\bextra\s*==")
_MINOR = re.compile(r"\d+\.\d+(?!\d)")


def backend_versions(backend: str) -> dict[str, str]:
    """Versions of core, of the backend's distribution and of all that it may require.

    Requirements of any extra count; what is not installed is left out.

    Raises:
        BackendNotFound, BackendLoadError: As `registry.backend`.
    """
    own = _distribution(backend)
    found = {"core": __version__}
    for name in (own, *_requirements(own)) if own else ():
        version = _installed(name)
        if version is not None:
            found.setdefault(name, version)
    return found


def changed_version(backend: str, recorded: Mapping[str, str]) -> str | None:
    """What is installed otherwise than `backend_versions` once recorded, in words; None if nothing.

    Versions agree in their first two numbers: later ones hold corrections. What the backend needs
    for an extra alone may be gone: tools that make files are not there where the files are used.

    Raises:
        BackendNotFound, BackendLoadError: As `registry.backend`.
    """
    own = _distribution(backend)
    for name in filter(None, ("core", own)):
        if name not in recorded:
            return f"no version of {name} is recorded"
    optional = _requirements(own) if own else {}
    for name, version in recorded.items():
        now = __version__ if name == "core" else _installed(name)
        # A frozen application is packed with the metadata of backends alone.
        if now is None and not optional.get(name, False) and not is_frozen():
            return f"{name} {version} is not installed"
        if now is not None and _minor(now) != _minor(version):
            return f"{name} is {now}, and was {version}"
    return None


def _distribution(backend: str) -> str:
    """The name of what installed a backend; "" when it was registered in code."""
    label = registry.backend(backend).plugin.distribution
    return _normalized(label.rpartition(" ")[0]) if label else ""


def _requirements(distribution: str) -> dict[str, bool]:
    """Every distribution that one requires, to whether only an extra does."""
    try:
        stated = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, bool] = {}
    for requirement in stated:
        matched = _NAME.match(requirement)
        if matched is None:
            continue
        name = _normalized(matched.group(1))
        if name not in ("core", distribution):
            found[name] = found.get(name, True) and _EXTRA.search(requirement) is not None
    return found


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: no such name
        return None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _minor(version: str) -> str:
    """ "1.32.0" becomes "1.32"; what does not begin so stays."""
    matched = _MINOR.match(version)
    return matched.group() if matched else version
