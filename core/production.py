"""Around the hooks that write files: staging, verification, record and publication.

Loading exports a missing file in the same way, into the cache.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.artifact import SIDECAR_SUFFIX, Artifact
from core.cache import export_folder, finished, locked, record_finished
from core.checkpoint import Checkpoint
from core.errors import ArtifactNotFound, CoreError, PluginError
from core.file_choice import find_artifacts
from core.operations import hooks
from core.options import ExportOptions, LoadOptions
from core.publish import check_overwritten, destination_of, publish_artifact, staging_directory
from core.registry import registry
from core.verify import check, verify

if TYPE_CHECKING:
    from core.artifact import Verification
    from core.model import EmbeddingModel
    from core.operations import Hooks

logger = logging.getLogger("core")

_SHOWN_FILES = 12


def produce(
    operations: Hooks,
    source: Checkpoint,
    target: str | os.PathLike[str] | None,
    write: Callable[[Path], Artifact],
    reference: Callable[[], AbstractContextManager[EmbeddingModel]] | None,
    *,
    min_cosine: float | None,
    trust_remote_code: bool,
) -> Artifact:
    """Have an artifact written to a staging directory, and publish it once it is verified.

    Args:
        operations: Of the backend that writes and loads it.
        target: As for `core.publish.destination_of`.
        write: The hook's call: takes the staging directory.
        reference: Opens the model it must agree with; None leaves verification out.

    Raises:
        VerificationError: It does not agree; nothing is published.
        OptionError: It would overwrite a file that is no earlier artifact.
    """
    destination = destination_of(source, target)
    with staging_directory(destination) as staging:
        artifact = write(staging)
        origin: Checkpoint = source
        weights: tuple[str, ...] = ()
        if reference is not None:
            with reference() as model:
                origin, weights = model.source, model.weight_files
                own = source.directory
                in_place = own is not None and destination.resolve() == own.resolve()
                check_overwritten(
                    artifact, destination, operations.capabilities, weights if in_place else ()
                )
                load = LoadOptions(
                    file_name=artifact.file_name, trust_remote_code=trust_remote_code
                )
                with operations.load(source.overlay(staging), load) as loaded:
                    verification = _verified(artifact, model, loaded, min_cosine)
            artifact = dataclasses.replace(artifact, verification=verification)
        record = artifact.sidecar(origin.identity(weights))
        (staging / (artifact.file_name + SIDECAR_SUFFIX)).write_text(
            json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        publish_artifact(artifact, source, destination)
    source.list_again()
    return dataclasses.replace(artifact, root=destination)


def _verified(
    artifact: Artifact, reference: EmbeddingModel, loaded: EmbeddingModel, min_cosine: float | None
) -> Verification:
    verification = verify(reference, loaded)
    warning = check(artifact, verification, min_cosine)
    if warning:
        logger.warning("%s", warning)
    return verification


def export_to_cache(
    operations: Hooks, checkpoint: Checkpoint, options: LoadOptions
) -> tuple[Checkpoint, str]:
    """The checkpoint with an export in front of it, made unless it is cached, and the file to load.

    Raises:
        ArtifactNotFound: The backend makes none, `options` forbid it, or there is nothing to
            export from.
    """
    name, capabilities = operations.name, operations.capabilities
    if not capabilities.auto_export or options.export is False:
        wanted = " or ".join(capabilities.file_names[:2])
        why = " and export=False forbids making one" if options.export is False else ""
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {name} backend can load ({wanted}){why}."
            f"{_elsewhere(checkpoint, name)} It holds: {_shorten(checkpoint.names)}."
        )
    origin = capabilities.exports_from
    # Asking for it now gives its install command before any work is done.
    try:
        if origin is not None:
            hooks(origin)
    except PluginError as error:
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {name} backend can load, and exporting one needs the "
            f"{origin} backend: {error}"
        ) from error
    export = ExportOptions(
        trust_remote_code=options.trust_remote_code, config_kwargs=options.config_kwargs
    )
    folder = export_folder(checkpoint, name, operations.distribution, export)
    with locked(folder):
        names = [] if options.export is True else finished(folder)
        if not names:
            names = [_export(operations, checkpoint, folder, export, forced=bool(options.export))]
            record_finished(folder, names)
    return checkpoint.overlay(folder), names[0]


def _export(
    operations: Hooks, checkpoint: Checkpoint, folder: Path, options: ExportOptions, *, forced: bool
) -> str:
    start = time.perf_counter()
    try:
        artifact = operations.export(checkpoint, folder, options)
    except ArtifactNotFound as error:
        raise ArtifactNotFound(
            f"{checkpoint} has no file the {operations.name} backend loads by default, and there "
            f"is nothing to export one from: {error}"
        ) from error
    logger.warning(
        "%s %s the %s backend: exported one in %.1f s to %s. To keep it with the model, save it: "
        "model.save(path).",
        checkpoint,
        "was to be exported for" if forced else "has no file for",
        operations.name,
        time.perf_counter() - start,
        artifact.path,
    )
    return artifact.file_name


def _elsewhere(checkpoint: Checkpoint, name: str) -> str:
    """Which other installed backends would find a file."""
    found = []
    for other in registry.names():
        with suppress(CoreError):  # a broken one has its own message when it is named
            if other != name and find_artifacts(
                checkpoint.names, hooks(other).capabilities, checkpoint.architecture.path
            ):
                found.append(f"backend={other!r}")
    return f" For {' or '.join(found)} it has one (--backend in the shell)." if found else ""


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_FILES]) + (", ..." if len(names) > _SHOWN_FILES else "")
    return shown or "nothing"
