"""Which of a checkpoint's files a backend loads, decided from names alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from core.artifacts.artifact import FULL_PRECISIONS, SIDECAR_SUFFIX
from core.checkpoint.checkpoint import Checkpoint
from core.errors import ArtifactNotFound, CoreError, ModelError
from core.files.paths import check_relative
from core.files.source import Source
from core.options import suggestion
from core.plugin.capabilities import Capabilities
from core.plugin.registry import registry

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


#: What in a file's name indicates fewer bits than float32; a sidecar is more reliable.
_PRECISIONS = (
    (re.compile(r"int4|uint4|nf4|fp4|bnb4|q4|w4"), "int4"),
    (re.compile(r"int8|quant|q8|w8|fp8|f8e"), "int8"),
    (re.compile(r"bf16|bfloat16"), "bf16"),
    (re.compile(r"fp16|float16|f16|half|o4(?![0-9a-z])"), "fp16"),
)


def stated_precision(source: Source, name: str) -> str | None:
    """The precision of a backend's file as its sidecar or its name tells it; None if neither do."""
    stated = read_sidecar(source, name).get("precision")
    if isinstance(stated, str):
        return stated
    file = name.rpartition("/")[2].lower()
    return next((precision for pattern, precision in _PRECISIONS if pattern.search(file)), None)


def read_sidecar(source: Source, name: str) -> dict[str, Any]:
    """The sidecar of a file that an operation wrote; empty if there is none."""
    sidecar = name + SIDECAR_SUFFIX
    if not source.available(sidecar):
        return {}
    try:
        content: dict[str, Any] = source.read_json(sidecar)
    except ModelError:  # another tool's file of that name, or one that cannot be downloaded now
        return {}
    return content if "backend" in content else {}


def is_reduced(source: Source, name: str) -> bool:
    """Whether a file is known to compute in fewer bits than float32."""
    return stated_precision(source, name) not in (None, *FULL_PRECISIONS)


def is_default(name: str, capabilities: Capabilities, path: str = "") -> bool:
    """Whether a file has one of the names that a backend looks for. `path` is the transformer's."""
    inner = name.removeprefix(f"{path}/") if path else name
    return not {name, inner}.isdisjoint(capabilities.file_names)


def preferred(
    source: Source, capabilities: Capabilities, found: list[str], path: str = ""
) -> list[str]:
    """What `find_artifacts` found, files of fewer bits last unless one has a default name."""
    if found and is_default(found[0], capabilities, path):
        return found
    return sorted(found, key=lambda name: is_reduced(source, name))


def is_last_resort(source: Source, capabilities: Capabilities, name: str, path: str = "") -> bool:
    """Whether a file is loaded only if it is named, or if no other can be made.

    It has fewer bits than float32, and its name is not the one the backend looks for.
    """
    return not is_default(name, capabilities, path) and is_reduced(source, name)


def is_exportable(source: Source, capabilities: Capabilities, path: str = "") -> bool:
    """Whether a float32 file can be made: the backend does so, and what it starts from is here."""
    origin = capabilities.exports_from
    if not capabilities.auto_export or origin is None:
        return capabilities.auto_export
    if origin not in registry.names():  # not installed, or switched off by now
        return False
    try:
        weights = registry.backend(origin).capabilities
    except CoreError:
        return False
    return any(
        is_default(name, weights, path) for name in find_artifacts(source.names, weights, path)
    )


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
    """The file to load, or None if the checkpoint has no file for this backend.

    The first of the default names; else a file that is not known to have fewer bits than float32.

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
    if not found:
        for name in capabilities.file_names:  # a folder that is a link out is not just missing
            source.has(source.architecture.file(name))
            source.has(name)
        return None
    found = preferred(source, capabilities, found, path)
    if is_default(found[0], capabilities, path):
        return found[0]
    if len(found) > 1 and not is_reduced(source, found[0]):
        logger.warning(
            "%s holds several files for the %s backend and none of the name it looks for (%s): "
            "%s. Loading %s; pass file_name to choose.",
            source,
            backend,
            " or ".join(capabilities.file_names[:2]),
            ", ".join(found),
            found[0],
        )
    return found[0]


def _named(
    source: Checkpoint,
    backend: str,
    capabilities: Capabilities,
    found: list[str],
    file_name: str,
    subfolder: str | None,
) -> str:
    own = source.directory
    if own is not None and Path(file_name).is_absolute():
        absolute = Path(file_name).parent.resolve() / Path(file_name).name
        if absolute.is_relative_to(own):
            file_name = absolute.relative_to(own).as_posix()
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
