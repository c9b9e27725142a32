"""Opening a model from a file that exists: choose the file, call the `load` hook."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from core.architecture.kinds import EMBEDDING, KINDS
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import named_only, resolve
from core.errors import OptionError, UnsupportedOperation
from core.models.classes import MODEL_CLASSES
from core.models.model import Model
from core.operations.calls import BackendCalls
from core.operations.file_choice import choose_artifact
from core.operations.results import check_loaded
from core.options import LoadOptions, check_names
from core.plugin.registry import registry


def as_checkpoint(calls: BackendCalls, source: Checkpoint | str | os.PathLike[str]) -> Checkpoint:
    """What a hook was given as a checkpoint; a backend of names needs no files."""
    if isinstance(source, Checkpoint):
        return source
    if calls.capabilities.source == "name":
        return named_only(source)
    return resolve(source)


def check_load(calls: BackendCalls, options: LoadOptions) -> None:
    """Refuse what can be refused before a file is looked at.

    Raises:
        OptionError: The device or an option of the backend.
    """
    devices, device = calls.capabilities.devices, options.device
    # With several devices the backend itself tells them apart.
    only = devices[0] if len(devices) == 1 else None
    if device and only and device.lower().partition(":")[0] != only.lower():
        raise OptionError(
            f"The {calls.name} backend computes on {only} only, not on {device!r}. Leave "
            "out device, or choose another backend."
        )
    known = calls.capabilities.model_kwargs
    check_names(options.model_kwargs, known, f"model_kwargs of the {calls.name} backend")


def kind_of(checkpoint: Checkpoint) -> str:
    """The kind of model a checkpoint is read as; what has no files is what was asked for."""
    if checkpoint.names:
        return checkpoint.architecture.kind
    return checkpoint.kind or EMBEDDING


def check_kind(calls: BackendCalls, checkpoint: Checkpoint) -> None:
    """Refuse a kind of model that the backend does not run.

    Raises:
        UnsupportedOperation: The message says which backends do.
    """
    kind, known = kind_of(checkpoint), calls.capabilities.kinds
    if kind in known:
        return
    noun, loader = KINDS[kind].noun, KINDS[kind].loader
    runs = ", ".join(name.replace("_", "-") for name in known)
    others = [name for name, backend in registry.working() if kind in backend.capabilities.kinds]
    advice = "No installed backend runs it."
    if others:
        advice = f"Use {loader}(..., backend={others[0]!r})."
    raise UnsupportedOperation(
        f"{checkpoint} is {noun}, and the {calls.name} backend runs models of the kind {runs} only "
        f"(its KINDS). {advice}"
    )


def find_file(calls: BackendCalls, checkpoint: Checkpoint, options: LoadOptions) -> str | None:
    """The file to load; None if the checkpoint has none, or another must be made.

    Raises:
        ArtifactNotFound: The file that the options name is missing.
        OptionError: They name one and ask for another.
    """
    if options.export is not True:
        return choose_artifact(
            checkpoint,
            calls.name,
            calls.capabilities,
            file_name=options.file_name,
            subfolder=options.subfolder,
        )
    if options.file_name is not None:
        raise OptionError(
            f"file_name={options.file_name!r} names a file that exists and export=True makes "
            "another: pass one of them."
        )
    return None


def open_file(calls: BackendCalls, files: Checkpoint, options: LoadOptions) -> Model:
    """The model in `options.file_name`, as the `load` hook returns it."""
    kind = kind_of(files)
    expected = MODEL_CLASSES[kind]
    model: Model = calls.call("load", check_loaded(expected), source=files, options=options)
    return model


def portable(options: LoadOptions) -> LoadOptions:
    """The options as they hold in any working directory: files they name by absolute paths."""

    def absolute(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return Path(value).expanduser().absolute()
        # What has no ending is the name of a device, a dtype, a provider.
        named = isinstance(value, str) and Path(value).suffix and Path(value).is_file()
        return str(Path(value).absolute()) if named else value

    own = {name: absolute(value) for name, value in options.model_kwargs.items()}
    return dataclasses.replace(options, model_kwargs=own)
