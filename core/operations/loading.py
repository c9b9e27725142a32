"""Load: open a file that exists, or export one into the cache and open that."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path

from core.artifacts.artifact import Artifact
from core.artifacts.cache import export_folder, finished, locked, record_finished
from core.checkpoint.checkpoint import Checkpoint
from core.errors import ArtifactNotFound, CoreError, PluginError
from core.models.model import Model
from core.operations.backend_choice import elsewhere, use_fallback
from core.operations.calls import BackendCalls
from core.operations.file_choice import (
    find_artifacts,
    is_default,
    is_exportable,
    is_last_resort,
    is_reduced,
    shorten,
    stated_precision,
)
from core.operations.opening import find_file
from core.options import ExportOptions, LoadOptions
from core.plugin.registry import registry

logger = logging.getLogger("core")

#: `Hooks.export` of a backend.
Export = Callable[[Checkpoint, Path, ExportOptions], Artifact]


def find_or_export(
    calls: BackendCalls,
    checkpoint: Checkpoint,
    options: LoadOptions,
    export: Export,
    *,
    look: bool = True,
) -> tuple[Checkpoint, LoadOptions]:
    """The files to open a model from, and options that name the one to load.

    Args:
        look: Whether a file of the checkpoint itself will do.

    Raises:
        ArtifactNotFound: There is none, and none can be made.
    """
    capabilities = calls.capabilities
    no_file = checkpoint.names and checkpoint.architecture.is_static
    if capabilities.source == "name" or no_file or not capabilities.file_names:
        return checkpoint, options
    name = find_file(calls, checkpoint, options) if look else None
    path = checkpoint.architecture.path
    if (
        name is None
        and look
        and options.export is not True
        and (options.export is False or not is_exportable(checkpoint, capabilities, path))
    ):
        name = use_fallback(calls, checkpoint)
    if name is None:
        checkpoint, name = _export_to_cache(calls, checkpoint, options, export)
    elif options.file_name is None and is_last_resort(checkpoint, capabilities, name, path):
        checkpoint, name = _export_or_warn(calls, checkpoint, options, export, name)
    return checkpoint, dataclasses.replace(options, file_name=name)


def _export_or_warn(
    calls: BackendCalls, checkpoint: Checkpoint, options: LoadOptions, export: Export, name: str
) -> tuple[Checkpoint, str]:
    """An export in the place of a file with fewer bits that nobody asked for, or else that file."""
    why = "there is nothing to export it from"
    if options.export is False:
        why = "export=False"
    elif options.subfolder is not None:
        why = f"subfolder={options.subfolder!r} has no other"
    elif is_exportable(checkpoint, calls.capabilities, checkpoint.architecture.path):
        try:
            return _export_to_cache(calls, checkpoint, options, export)
        except CoreError as error:
            why = f"the export failed: {error}"
    logger.warning(
        "%s has no float32 file for the %s backend, and none is made (%s): loading %s, which is "
        "%s, so its embeddings differ from the model's own. If that is what you want, pass "
        "file_name=%r.",
        checkpoint,
        calls.name,
        why,
        name,
        stated_precision(checkpoint, name),
        name,
    )
    return checkpoint, name


def _export_to_cache(
    calls: BackendCalls, checkpoint: Checkpoint, options: LoadOptions, export: Export
) -> tuple[Checkpoint, str]:
    """The checkpoint with an export in front of it, made unless it is cached, and the file to load.

    Raises:
        ArtifactNotFound: The backend makes none, `options` forbid it, or there is nothing to
            export from.
    """
    name, capabilities = calls.name, calls.capabilities
    if not capabilities.auto_export or options.export is False:
        wanted = " or ".join(capabilities.file_names[:2])
        why = " and export=False forbids making one" if options.export is False else ""
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {name} backend can load ({wanted}){why}."
            f"{elsewhere(checkpoint, name)} It holds: {shorten(checkpoint.names)}."
        )
    origin = capabilities.exports_from
    # Asking for it now gives its install command before any work is done.
    try:
        if origin is not None:
            registry.backend(origin)
    except PluginError as error:
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {name} backend can load, and exporting one needs the "
            f"{origin} backend: {error} Or export it where that is installed (`core export "
            f"{checkpoint.name} --backend {name} --target DIRECTORY`) and copy the directory. To "
            f"load without it, a model needs {' or '.join(capabilities.file_names[:2])}."
        ) from error
    how = ExportOptions(
        trust_remote_code=options.trust_remote_code, config_kwargs=options.config_kwargs
    )
    folder = export_folder(checkpoint, name, calls.distribution, how)
    names = [] if options.export is True else finished(folder)
    if names:  # also in a cache that this user may only read
        return checkpoint.overlay(folder), names[0]
    with locked(folder):
        names = [] if options.export is True else finished(folder)
        if not names:
            start = time.perf_counter()
            artifact = _exported(name, checkpoint, lambda: export(checkpoint, folder, how))
            lacks = "has no file for"
            if options.export:
                lacks = "is loaded with export=True on"
            elif find_artifacts(checkpoint.names, capabilities, checkpoint.architecture.path):
                lacks = "has no float32 file for"
            _tell(checkpoint, lacks, artifact, time.perf_counter() - start)
            names = [artifact.file_name]
            record_finished(folder, names)
    return checkpoint.overlay(folder), names[0]


def _exported(name: str, checkpoint: Checkpoint, export: Callable[[], Artifact]) -> Artifact:
    try:
        return export()
    except ArtifactNotFound as error:
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {name} backend loads by default, and there is nothing "
            f"to export one from: {error}"
        ) from error


def _tell(checkpoint: Checkpoint, lacks: str, artifact: Artifact, seconds: float) -> None:
    """Say once that an export was made, and how to keep it."""
    logger.warning(
        "%s %s the %s backend: exported one in %.1f s to %s. To keep it with the model, save it: "
        "model.save(path).",
        checkpoint,
        lacks,
        artifact.backend,
        seconds,
        artifact.path,
    )


def warn_of_precision(
    checkpoint: Checkpoint, options: LoadOptions, name: str | None, model: Model
) -> None:
    """Say so where a file that nobody named, and no name gave away, turns out to be reduced."""
    capabilities = model.hooks.capabilities
    if name is None or options.file_name is not None or not checkpoint.has(name):
        return
    path = checkpoint.architecture.path
    if is_default(name, capabilities, path) or is_reduced(checkpoint, name):
        return
    if model.dtype in ("int8", "int4", "float16", "bfloat16"):
        logger.warning(
            "%s: %s computes in %s, so its embeddings differ from the model's own. If that is what "
            "you want, pass file_name=%r; export=True makes a float32 file.",
            checkpoint,
            name,
            model.dtype,
            name,
        )
