"""Artifacts on the disk, read back from their sidecars."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from core.architecture.kinds import EMBEDDING, KINDS
from core.arguments import check_path
from core.artifacts.artifact import (
    SIDECAR_SUFFIX,
    Artifact,
    OutputsVerification,
    ScoreVerification,
    SparseVerification,
    VectorVerification,
    Verification,
)
from core.errors import ArtifactNotFound, ModelFormatError
from core.files.paths import resolve_inside
from core.files.source import read_json_file

_MEASURES = (
    Verification,
    OutputsVerification,
    ScoreVerification,
    SparseVerification,
    VectorVerification,
)

#: What `core` writes; a later format may mean something else by the same names.
_FORMAT = 1


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """The artifact that a file is, from the sidecar beside it.

    Raises:
        ArtifactNotFound: There is no such file, or nothing records how it was made.
        ModelFormatError: The record is damaged, or names a file that is missing or lies outside.
    """
    file = check_path("path", path)
    if file.is_dir():
        raise ArtifactNotFound(
            f"{str(file)!r} is a directory, and what is uploaded is one file that `core export`, "
            "`core optimize` or `core quantize` wrote. `core info` lists those of a model; "
            "model.push_to_hub uploads all of it."
        )
    if not file.is_file():
        raise ArtifactNotFound(f"There is no file {str(file)!r}.")
    sidecar = file.with_name(file.name + SIDECAR_SUFFIX)
    if not sidecar.is_file():
        raise ArtifactNotFound(
            f"{str(file)!r} is no artifact: beside those that `core export`, `core optimize` and "
            f"`core quantize` write lies a record of how they were made, and {sidecar.name} is "
            "missing."
        )
    record = read_json_file(sidecar, str(sidecar))
    try:
        return _checked(file, record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFormatError(
            f"{sidecar} is not a record of how {file.name} was made: {error}. Make the artifact "
            "again."
        ) from error


def _checked(file: Path, record: Mapping[str, Any]) -> Artifact:
    if record["format"] != _FORMAT:
        raise ValueError(f"its format is {json.dumps(record['format'])}, not {_FORMAT}")
    names = [str(name) for name in record["files"]]
    depth = len(PurePosixPath(names[0]).parts) if names else 0
    absolute = file.absolute()  # links stay: the names are relative to where it lies
    if not names or absolute.parts[-depth:] != PurePosixPath(names[0]).parts:
        raise ValueError(f"it is about {', '.join(names) or 'no file'}")
    root = absolute.parents[depth - 1]
    for name in names:
        if not resolve_inside(root, name).is_file():
            raise ModelFormatError(f"{file} needs {name}, which is missing in {root}.")
    kind = str(record.get("kind", EMBEDDING))
    if kind not in KINDS:
        raise ValueError(f"it is about a {kind!r} model")
    return Artifact(
        root=root,
        file_name=names[0],
        files=tuple(names),
        precision=str(record["precision"]),
        config=dict(record["config"]),
        versions={str(name): str(version) for name, version in dict(record["versions"]).items()},
        backend=str(record["backend"]),
        operation=str(record["operation"]),
        verification=_verification(record["verification"]),
        kind=kind,
    )


def _verification(found: Any) -> Any:
    """In the measure whose names it has; None where it was not verified."""
    if found is None:
        return None
    for measure in _MEASURES:
        known = {field.name: field for field in fields(measure)}
        if known.keys() == set(found):
            counts = {"texts", "vectors"} & set(found)
            figures: dict[str, Any] = {
                # Of embeddings that the model does not give there are no figures.
                name: None if value is None and known[name].default is None else float(value)
                for name, value in found.items()
            }
            return measure(**{**figures, **{name: int(found[name]) for name in counts}})
    raise ValueError(f"its verification has {', '.join(found)}")
