"""Around the hooks that write files: staging, verification, record and publication."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.artifacts.artifact import SIDECAR_SUFFIX, Artifact
from core.artifacts.publish import check_destination, destination_of, publish_artifact
from core.checkpoint.checkpoint import Checkpoint
from core.errors import OptionError
from core.files.paths import is_same_file
from core.files.staging import copy_file, staging_directory
from core.machine.stages import announce
from core.models.model import Model
from core.operations.calls import BackendCalls
from core.operations.file_choice import is_file_of
from core.operations.judging import Thresholds
from core.operations.model_files import stage_configuration
from core.operations.opening import kind_of
from core.operations.results import check_artifact
from core.operations.verification import check, verify
from core.options import LoadOptions
from core.plugin.capabilities import Capabilities

logger = logging.getLogger("core")

_VERBS = {
    "export": "exporting {source} to the {backend} backend",
    "optimize": "optimizing {source} with the {backend} backend",
    "quantize": "quantizing {source} with the {backend} backend",
}


@dataclass(frozen=True)
class Production:
    """An artifact to be made.

    Attributes:
        operation: The hook that writes it: "export", "optimize" or "quantize".
        source: What it is made from.
        arguments: The hook's, given the staging directory.
        load: Opens the result, from a checkpoint with it in front.
        reference: Opens the model it must agree with; None leaves verification out.
        thresholds: As the operation's options have them.
        trust_remote_code: As the operation's options have it.
    """

    operation: str
    source: Checkpoint
    arguments: Callable[[Path], dict[str, Any]]
    load: Callable[[Checkpoint, LoadOptions], Model]
    reference: Callable[[], AbstractContextManager[Model]] | None
    thresholds: Thresholds
    trust_remote_code: bool


def produce(
    calls: BackendCalls, production: Production, target: str | os.PathLike[str] | None
) -> Artifact:
    """Have an artifact written to a staging directory, and publish it once it is verified.

    Args:
        calls: Of the backend that writes it.
        target: As for `core.artifacts.publish.destination_of`.

    Raises:
        UnsupportedOperation: The backend does not have the operation.
        VerificationError: The result does not agree; nothing is published.
        OptionError: It would overwrite a file that is not an earlier artifact.
    """
    calls.check_implements(production.operation)
    source = production.source
    destination = destination_of(source, target)
    check_destination(destination, calls.capabilities.artifact_folder)
    with staging_directory(destination) as staging:
        announce(_VERBS[production.operation].format(source=source, backend=calls.name))
        artifact = _written(calls, production, staging)
        if not _is_at(destination, source):
            artifact = _with_what_it_needs(artifact, source, destination)
        origin, weights = source, tuple[str, ...]()
        if production.reference is not None:
            with production.reference() as model:
                origin, weights = model.source, model.weight_files
                in_place = _is_at(destination, source)
                made_from = weights if in_place else ()
                check_overwritten(artifact, destination, calls.capabilities, made_from)
                announce(f"comparing {artifact.file_name} with what it was made from")
                verification = _verified(artifact, production, model, source.overlay(staging))
            artifact = dataclasses.replace(artifact, verification=verification)
        announce(f"writing {artifact.file_name} to {destination}")
        record = artifact.sidecar(origin.identity(weights))
        (staging / (artifact.file_name + SIDECAR_SUFFIX)).write_text(
            json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        stage = None
        if source.names and not _is_at(destination, source):
            stage = functools.partial(stage_configuration, source)
        in_place = _is_at(destination, source)
        publish_artifact(artifact, destination, stage)
    source.list_again(_replaced(source, artifact) if in_place else ())
    return dataclasses.replace(artifact, root=destination.absolute())


def _written(calls: BackendCalls, production: Production, staging: Path) -> Artifact:
    artifact: Artifact = calls.call(
        production.operation,
        functools.partial(check_artifact, staging=staging),
        **production.arguments(staging),
    )
    return dataclasses.replace(
        artifact,
        root=staging,
        backend=calls.name,
        operation=production.operation,
        kind=kind_of(production.source),
    )


def _with_what_it_needs(artifact: Artifact, source: Checkpoint, destination: Path) -> Artifact:
    """The artifact with files of its source that it loads along, unless they lie there already."""
    needed = []
    for name in artifact.refers_to:
        path, place = source.path(name), destination / name
        if not is_same_file(place, path):
            copy_file(path, artifact.root / name)
            needed.append(name)
    return dataclasses.replace(artifact, files=(*artifact.files, *needed))


def _replaced(source: Checkpoint, artifact: Artifact) -> list[str]:
    """Files that publishing put in the place of others: a folder of its own appears as a whole."""
    folder = artifact.file_name.rpartition("/")[0]
    beside = [name for name in source.names if folder and name.startswith(f"{folder}/")]
    return [*beside, *artifact.all_files, artifact.file_name + SIDECAR_SUFFIX]


def _is_at(destination: Path, source: Checkpoint) -> bool:
    own = source.directory
    return own is not None and destination.resolve() == own.resolve()


def _verified(
    artifact: Artifact, production: Production, reference: Model, files: Checkpoint
) -> Any:
    options = LoadOptions(
        file_name=artifact.file_name, trust_remote_code=production.trust_remote_code
    )
    with production.load(files, options) as loaded:
        verification = verify(reference, loaded)
    warning = check(artifact, verification, production.thresholds)
    if warning:
        logger.warning("%s", warning)
    return verification


def check_overwritten(
    artifact: Artifact, destination: Path, capabilities: Capabilities, made_from: Sequence[str]
) -> None:
    """Refuse an artifact in the place of what it was made from, or of no file of its backend.

    Raises:
        OptionError: `file_name` or `file_suffix` names such a place.
    """
    name, *beside = artifact.all_files
    taken = [n for n in (name, *beside) if (destination / n).exists()]
    foreign = name in taken and not is_file_of(name, capabilities)
    # Weights beside a file that is not there belong to something else.
    foreign = foreign or (bool(taken) and name not in taken)
    if foreign or set(taken) & set(made_from):
        raise OptionError(
            f"Writing {name} to {str(destination)!r} would overwrite {', '.join(taken)}, which is "
            f"not an earlier {artifact.operation} of the {artifact.backend} backend. Choose "
            "another file_name or file_suffix, or another target. Nothing was changed."
        )
