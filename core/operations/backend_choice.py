"""Which files a backend could use, and which backend a model's files are for."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator

from core.checkpoint.checkpoint import Checkpoint
from core.errors import ArtifactNotFound, PluginError
from core.operations.calls import BackendCalls
from core.operations.file_choice import find_artifacts, is_exportable, is_file_of, shorten
from core.options import LoadOptions
from core.plugin.capabilities import Capabilities
from core.plugin.registry import registry

logger = logging.getLogger("core")


def backend_with_a_file(calls: BackendCalls, checkpoint: Checkpoint, options: LoadOptions) -> str:
    """The backend to load a checkpoint with where nobody named one.

    `calls` is the default. Where it has no file in the checkpoint, and cannot export one, an
    installed backend that has one is chosen instead, and that is said once.
    """
    capabilities = calls.capabilities
    if (
        options.export is True
        or not capabilities.file_names
        or capabilities.source == "name"
        or checkpoint.architecture.is_static
        or _serves(calls.name, capabilities, checkpoint, options)
        or is_exportable(checkpoint, capabilities, checkpoint.architecture.path)
    ):
        return calls.name
    for name, other in _others(calls.name):
        if _serves(name, other, checkpoint, options):
            say_once(
                f"{checkpoint} has no file for the {calls.name} backend: loading it with the "
                f"{name} backend. To choose yourself, pass backend=..."
            )
            return name
    return calls.name


def _serves(
    name: str, capabilities: Capabilities, checkpoint: Checkpoint, options: LoadOptions
) -> bool:
    if options.file_name is not None:
        return is_file_of(options.file_name.replace("\\", "/"), capabilities)
    return loadable_file(checkpoint, capabilities) is not None


def loadable_file(checkpoint: Checkpoint, capabilities: Capabilities) -> str | None:
    """The file a backend would load, one of its `fallback_names` included; None for none."""
    path = checkpoint.architecture.path
    found = find_artifacts(checkpoint.names, capabilities, path)
    return found[0] if found else fallback_file(checkpoint, capabilities, path)


def fallback_file(checkpoint: Checkpoint, capabilities: Capabilities, path: str) -> str | None:
    """The first file of another backend's that this one runs; `path` is the transformer's."""
    places = [f"{path}/" if path else "", ""]
    wanted = (f"{place}{name}" for name in capabilities.fallback_names for place in places)
    return next(filter(checkpoint.has, wanted), None)


def check_exportable(calls: BackendCalls, checkpoint: Checkpoint) -> None:
    """Raise `ArtifactNotFound` where the backend that an export starts from has no weights.

    Where that backend is not installed, its own message says so later.
    """
    origin = calls.capabilities.exports_from
    if origin is None or checkpoint.architecture.is_static:
        return
    try:
        weights = registry.backend(origin).capabilities
    except PluginError:
        return
    if not weights.file_names or find_artifacts(
        checkpoint.names, weights, checkpoint.architecture.path
    ):
        return
    own = loadable_file(checkpoint, calls.capabilities)
    advice = (
        f"It has {own}, which the {calls.name} backend loads as it is: load, optimize or quantize "
        "that."
        if own
        else f"It holds: {shorten(checkpoint.names)}."
    )
    wanted = " or ".join(weights.file_names[:2])
    raise ArtifactNotFound(
        f"{checkpoint} has no weights to export from: an export starts from a file that the "
        f"{origin} backend loads ({wanted}). {advice}"
    )


def elsewhere(checkpoint: Checkpoint, name: str) -> str:
    """A sentence on which other installed backends would find a file; "" for none."""
    found = [
        f"backend={other!r}"
        for other, capabilities in _others(name)
        if find_artifacts(checkpoint.names, capabilities, checkpoint.architecture.path)
    ]
    return f" For {' or '.join(found)} it has one." if found else ""


def use_fallback(calls: BackendCalls, checkpoint: Checkpoint) -> str | None:
    """The other backend's file to load, reported once; None if there is none."""
    name = fallback_file(checkpoint, calls.capabilities, checkpoint.architecture.path)
    if name is not None:
        say_once(
            f"{checkpoint} has no file of the {calls.name} backend's own, and there is nothing "
            f"here to export one from: running {name}."
        )
    return name


def _others(name: str) -> Iterator[tuple[str, Capabilities]]:
    """Every other installed backend that loads files."""
    for other, backend in registry.working():
        if other != name and backend.capabilities.source != "name":
            yield other, backend.capabilities


@functools.lru_cache(maxsize=256)
def say_once(text: str) -> None:
    """Warn, unless the same was said before."""
    logger.warning("%s", text)
