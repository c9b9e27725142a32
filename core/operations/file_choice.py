"""Which of a checkpoint's files a backend loads, decided from names alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from core.artifacts.artifact import SIDECAR_SUFFIX
from core.checkpoint.checkpoint import Checkpoint
from core.errors import ArtifactNotFound
from core.files.paths import check_relative
from core.options import suggestion
from core.plugin.capabilities import Capabilities

logger = logging.getLogger("core")

_SHOWN_FILES = 12


def find_artifacts(names: Sequence[str], capabilities: Capabilities, path: str = "") -> list[str]:
    """Every file the backend could load, default names first. `path` is the transformer's."""
    prefix = f"{path}/" if path else ""
    known = set(names)
    defaults = [prefix + name for name in capabilities.file_names if prefix + name in known]
    if prefix:
        defaults += [name for name in capabilities.file_names if name in known]
    others = [
        name
        for name in names
        if name not in defaults
        and not _is_sidecar(name, known)
        and any(
            _matches(name, prefix + pattern) or _matches(name, pattern)
            for pattern in capabilities.file_patterns
        )
    ]
    return [*defaults, *others]


def is_file_of(name: str, capabilities: Capabilities) -> bool:
    """Whether a file's name is one the backend loads."""
    known = (*capabilities.file_names, *capabilities.file_patterns)
    # The transformer may lie in a folder of its own, and its artifacts with it.
    return any(
        _matches(name, known_name) or name.endswith(f"/{known_name}") for known_name in known
    )


def companions(name: str, names: Sequence[str], capabilities: Capabilities) -> list[str]:
    """Those of `names` that belong to a file of the backend: external data, weights, shards."""
    folder, _, file = name.rpartition("/")
    found: dict[str, None] = {}
    for pattern, belonging in capabilities.files.items():
        if not fnmatchcase(file, pattern.rpartition("/")[2]):
            continue
        for companion in belonging:
            wanted = companion.format(file=_literal(file), stem=_literal(file.rpartition(".")[0]))
            full = f"{_literal(folder)}/{wanted}" if folder else wanted
            found.update(dict.fromkeys(n for n in names if _matches(n, full) and n != name))
    return list(found)


def _literal(text: str) -> str:
    """A pattern that matches the text alone."""
    return re.sub(r"([*?\[])", r"[\1]", text)


def choose_artifact(
    source: Checkpoint,
    backend: str,
    capabilities: Capabilities,
    *,
    file_name: str | None = None,
    subfolder: str | None = None,
) -> str | None:
    """The file to load, or None when the checkpoint has none for this backend.

    Raises:
        ArtifactNotFound: `file_name` or `subfolder` was given and nothing there fits.
    """
    path = source.architecture.path
    found = find_artifacts(source.names, capabilities, path)
    if file_name is not None:
        return _named(source, backend, capabilities, found, file_name, subfolder)
    if subfolder is not None:
        check_relative(subfolder, "subfolder")
        found = [name for name in found if name.startswith(subfolder.strip("/") + "/")]
        if not found:
            raise ArtifactNotFound(
                f"{source} has no file for the {backend} backend in {subfolder!r}. "
                + _listing(backend, find_artifacts(source.names, capabilities, path))
            )
    if len(found) > 1 and not _only_defaults(found, capabilities):
        logger.warning(
            "%s holds several files for the %s backend: %s. Loading %s; pass file_name to choose.",
            source,
            backend,
            ", ".join(found),
            found[0],
        )
    return found[0] if found else None


def _only_defaults(found: list[str], capabilities: Capabilities) -> bool:
    """Whether nothing but formats of the same weights is there (safetensors beside .bin)."""
    return capabilities.artifact_folder == "" and all(
        name.rpartition("/")[2] in capabilities.file_names for name in found
    )


def _named(
    source: Checkpoint,
    backend: str,
    capabilities: Capabilities,
    found: list[str],
    file_name: str,
    subfolder: str | None,
) -> str:
    own = source.directory
    if own is not None and Path(file_name).is_relative_to(own.resolve()):
        file_name = Path(file_name).relative_to(own.resolve()).as_posix()
    check_relative(file_name, "file_name")
    name = file_name.replace("\\", "/").removeprefix("./")
    folders = [capabilities.artifact_folder, source.architecture.path, ""]
    if subfolder is not None:
        check_relative(subfolder, "subfolder")
        folders = [subfolder.strip("/")]
    elif "/" in name:
        folders = ["", source.architecture.path]
    for folder in folders:
        full = f"{folder}/{name}" if folder else name
        if source.has(full):
            return full
    hint = suggestion(name, [*found, *(f.rpartition("/")[2] for f in found)])
    place = f" in {subfolder!r}" if subfolder else ""
    raise ArtifactNotFound(
        f"{source} has no file {file_name!r}{place}.{hint} {_listing(backend, found)}"
    )


def _listing(backend: str, found: list[str]) -> str:
    listed = ", ".join(found) or "none"
    return f"Its files for the {backend} backend: {listed}."


def shorten(names: Sequence[str]) -> str:
    """The first few names, for messages."""
    shown = ", ".join(names[:_SHOWN_FILES]) + (", ..." if len(names) > _SHOWN_FILES else "")
    return shown or "nothing"


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _is_sidecar(name: str, known: set[str]) -> bool:
    return name.endswith(SIDECAR_SUFFIX) and name.removesuffix(SIDECAR_SUFFIX) in known
