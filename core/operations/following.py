"""Loading as `core tune` chose: what `core.load` does with the document beside a model."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

from core.artifacts.tuned import LOCK_NAME, TUNED
from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError, OptionError
from core.machine.surroundings import expand_home
from core.models.model import Model
from core.operations.backend_choice import say_once
from core.operations.hooks import hooks
from core.operations.tuned import check_choice, is_on, read_choice, stated_options
from core.options import LoadOptions
from core.plugin.registry import told_by_variable


def has_choice(name: Any) -> bool:
    """Whether what the user typed is a directory with the document: one look at the disk."""
    if not isinstance(name, str | os.PathLike):
        return False
    try:
        return Path(expand_home(name), LOCK_NAME).is_file()
    except (
        CoreError,
        OSError,
        TypeError,
        ValueError,
    ):  # no home, no path: `resolve` says what is wrong
        return False


def load_tuned(source: Checkpoint, options: LoadOptions) -> Model:
    """The model as the document says, or an error that tells why not: `backend="tuned"`.

    The caller's `model_kwargs` count more than the document's.

    Raises:
        ArtifactNotFound: There is no document, or its file is missing.
        ModelFormatError: It is damaged, or of another state of the model.
        OptionError: It is for another processor, other versions or another device, or the caller
            names a file.
        BackendNotFound, BackendLoadError: Its backend is not there.
    """
    for name in ("file_name", "subfolder", "export"):
        given = getattr(options, name)
        if given is not None and given is not False:
            raise OptionError(
                f"{name}={given!r} chooses a file, and backend={TUNED!r} takes the one that "
                f"{LOCK_NAME} names: pass one of them."
            )
    try:
        model = _load(source, options)
    except CoreError as error:
        raise type(error)(f"{error} {_advice(source)}") from error
    if model is None:
        raise OptionError(
            f"device={options.device!r}: {source} was tuned for another device, which its "
            f"{LOCK_NAME} names. Leave out device. {_advice(source)}"
        )
    return model


def load_if_tuned(source: Checkpoint, options: LoadOptions) -> Model | None:
    """The model as the document says; None where it does not hold here, which is said once.

    None without a word where the caller chooses a file or another device.
    """
    if options.file_name is not None or options.subfolder is not None or options.export:
        return None
    try:
        return _load(source, options)
    except (CoreError, OSError) as error:
        say_once(
            f"{error} So {source} is loaded as if it had no {LOCK_NAME}. To choose again for this "
            f"machine: `{_command(source)}`."
        )
        return None


def _load(source: Checkpoint, options: LoadOptions) -> Model | None:
    """The model; None where the caller wants another device."""
    choice = read_choice(source)
    if options.device is not None and not is_on(choice, options.device):
        return None
    check_choice(choice, source)
    tuned = dataclasses.replace(
        options,
        device=choice.device,
        file_name=choice.file_name,
        # The name is whole: it is looked for nowhere else.
        subfolder=None if choice.file_name is None else "",
        export=False,
        model_kwargs={**stated_options(choice), **options.model_kwargs},
    )
    model: Model = hooks(choice.backend).load(source, tuned)
    return model


def _advice(source: Checkpoint) -> str:
    return (
        f"To choose for this machine: `{_command(source)}`. To load {source} in the usual way, "
        f"leave out backend={TUNED!r}.{told_by_variable(TUNED)}"
    )


def _command(source: Checkpoint) -> str:
    return f"core tune {shlex.quote(source.name)} --texts FILE"
