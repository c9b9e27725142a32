"""The chosen file and the lock, put where a loader finds them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.artifacts.artifact import SIDECAR_SUFFIX, Artifact
from core.artifacts.publish import check_destination, destination_of, publish_artifact
from core.checkpoint.checkpoint import Checkpoint
from core.errors import OptionError
from core.files.paths import is_same_file
from core.files.staging import copy_file, staging_directory
from core.operations.model_files import stage_configuration
from core.operations.tuned import describe_choice, write_choice
from core.tuning.findings import TunedVariant, measured_figures


def publish_choice(
    target: str | os.PathLike[str] | None,
    *,
    source: Checkpoint,
    variant: TunedVariant,
    files: Mapping[str, str],
    objective: str,
) -> Path:
    """Put a variant's files into a directory, then the lock that names them.

    Args:
        target: As for `core.artifacts.publish.destination_of`.
        source: The model.
        variant: What was chosen.
        files: What it consists of: name in the model to where it is now.
        objective: What it was chosen for.

    Returns:
        The path of the lock.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    destination = destination_of(source, target)
    check_destination(destination, "")
    missing = {n: p for n, p in files.items() if not is_same_file(destination / n, Path(p))}
    if missing or not destination.is_dir():
        main = variant.file_name or next(iter(files))
        _check_free(destination, main)
        with staging_directory(destination) as staging:
            staged = {*missing, main, main + SIDECAR_SUFFIX} & files.keys()
            for name in staged:
                copy_file(Path(files[name]), staging / name)
            _publish(staging, destination, source, main, staged)
    figures = measured_figures(variant)
    scores = figures.pop("quality_scores", {})
    figures |= {f"quality_{name}": value for name, value in scores.items()}
    choice = describe_choice(
        str(destination),
        backend=variant.backend,
        file_name=variant.file_name,
        device=variant.device or "cpu",
        options=variant.options,
        objective=objective,
        measured=figures,
    )
    return write_choice(choice, destination)


def _check_free(destination: Path, main: str) -> None:
    """Refuse to replace a file that no operation of core wrote."""
    if (destination / main).exists() and not (destination / (main + SIDECAR_SUFFIX)).exists():
        raise OptionError(
            f"Writing {main} to {str(destination)!r} would overwrite another file of that name, "
            "which core has not made. Choose another target. Nothing was changed."
        )


def _publish(
    staging: Path, destination: Path, source: Checkpoint, main: str, names: Iterable[str]
) -> None:
    stage = functools.partial(stage_configuration, source)
    beside = tuple(sorted(set(names) - {main, main + SIDECAR_SUFFIX}))
    artifact = Artifact(root=staging, file_name=main, files=beside)
    publish_artifact(artifact, destination, stage)
