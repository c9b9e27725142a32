"""What `core tune` chose for a model: written beside it, and whether it may be followed here.

The document is data that may come from anywhere. It names a backend that is installed, one of that
backend's devices and configurations, and a file of that backend inside the directory: nothing else
of it reaches a backend.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.arguments import check_mapping_or_none, check_path
from core.artifacts.tuned import (
    LOCK_NAME,
    MAX_LOCK_BYTES,
    TunedChoice,
    check_figures,
    parse_choice,
)
from core.checkpoint.checkpoint import Checkpoint
from core.checkpoint.resolve import resolve
from core.errors import ArtifactNotFound, CoreError, ModelFormatError, OptionError
from core.files.files import LocalFiles
from core.files.paths import check_relative
from core.files.source import read_json_file
from core.files.staging import (
    explained_writes,
    locked_directory,
    replace_files,
    staging_directory,
    sync_tree,
)
from core.machine.processor import machine_type, vector_flags
from core.operations.file_choice import companions, is_file_of
from core.operations.tuned_files import carried_files, check_files, record_files
from core.plugin.capabilities import Capabilities
from core.plugin.registry import registry
from core.plugin.versions import backend_versions, changed_version

#: "cuda", "cuda:1"; OpenVINO's own names read "GPU.1".
_DEVICE = re.compile(r"(?P<kind>\w{1,40})(?:[:.](?P<number>\d{1,3}))?")


def describe_choice(
    source: Checkpoint | str | os.PathLike[str],
    *,
    backend: str,
    file_name: str | None,
    device: str,
    options: Mapping[str, Any] | None = None,
    objective: str,
    measured: Mapping[str, Any],
) -> TunedChoice:
    """A choice for this machine, with what a loader needs to know whether it still holds.

    Args:
        source: The directory that holds the model and `file_name`; it is listed anew.
        backend: An installed backend.
        file_name: As `EmbeddingModel.file_name` has it; None where that is None.
        device: As `EmbeddingModel.device` has it.
        options: `model_kwargs`: empty, or one of the backend's `LOAD_CONFIGS`.
        objective: "throughput", "latency" or "memory".
        measured: Figures by name: numbers, texts, or short lists of them.

    Raises:
        OptionError: The backend has no such device, options or kind of file.
        ArtifactNotFound: The directory lacks the file.
    """
    given = source.directory if isinstance(source, Checkpoint) else source
    if given is None:
        raise OptionError(f"{source} is a repository; a choice is kept in a model's directory.")
    checkpoint = resolve(given)
    for name, text in (("backend", backend), ("device", device), ("objective", objective)):
        if not isinstance(text, str) or not text:
            raise OptionError(f"{name} must be a string, not {text!r}.")
    check_mapping_or_none("options", options)
    check_mapping_or_none("measured", measured)
    figures = {name: _plain(value) for name, value in measured.items()}
    try:
        check_figures(figures)
    except ValueError as error:
        raise OptionError(f"measured {error}.") from error
    opened = registry.backend(backend)
    backend, capabilities = opened.name, opened.capabilities
    try:
        _check_source(capabilities, backend)
        _check_device(device, capabilities, backend)
        stated = _stated_options(options or {}, capabilities, backend)
        _check_file(file_name, checkpoint, capabilities, backend)
    except ModelFormatError as error:
        raise OptionError(f"The choice {error}") from error
    return TunedChoice(
        backend=backend,
        file_name=file_name,
        device=device,
        options=_as_json(stated),
        objective=objective,
        measured=figures,
        tuned_at=datetime.now(UTC).date().isoformat(),
        machine=machine_type(),
        flags=vector_flags(),
        versions=backend_versions(backend),
        files=record_files(checkpoint, capabilities, file_name),
    )


def write_choice(choice: TunedChoice, directory: str | os.PathLike[str]) -> Path:
    """Put the document into a model's directory, whole or not at all; returns its path.

    Raises:
        CoreError: Nothing can be written there; what was there is unchanged.
    """
    place = check_path("directory", directory)
    text = _as_text(choice)
    parse_choice(json.loads(text), "The choice")
    with explained_writes(place):
        if not place.is_dir():
            raise OptionError(f"There is no directory {str(place)!r} to keep the choice in.")
        target = place.resolve()
        with staging_directory(target) as tree:
            (tree / LOCK_NAME).write_text(text, encoding="utf-8")
            sync_tree(tree)
            with locked_directory(target):
                replace_files(tree, target)
    return place / LOCK_NAME


def _as_text(choice: TunedChoice) -> str:
    return json.dumps(choice.as_dict(), indent=2, ensure_ascii=False) + "\n"


def read_choice(source: Checkpoint) -> TunedChoice:
    """The choice that lies beside a model.

    Raises:
        ArtifactNotFound: There is none.
        ModelFormatError: It is not what `write_choice` writes.
    """
    what = f"{source}: {LOCK_NAME}"
    if not source.has(LOCK_NAME):
        raise ArtifactNotFound(f"{source} has no {LOCK_NAME}.")
    content = read_json_file(source.files.peek(LOCK_NAME), what, most=MAX_LOCK_BYTES)
    return parse_choice(content, what)


def check_choice(choice: TunedChoice, source: Checkpoint, *, contents: bool = True) -> None:
    """Raise the error that says why a choice cannot be followed here; nothing if it can.

    Args:
        contents: Whether to look into the files as well, which a repository would download.

    Raises:
        BackendNotFound, BackendLoadError: Its backend is not there.
        ModelFormatError: It names what no backend states, or is of another model.
        ArtifactNotFound: Its file is missing.
        OptionError: Another processor, or other versions.
    """
    what = f"{source}: {LOCK_NAME}"
    capabilities = registry.backend(choice.backend).capabilities
    try:
        _check_source(capabilities, choice.backend)
        _check_device(choice.device, capabilities, choice.backend)
        _stated_options(choice.options, capabilities, choice.backend)
        _check_file(choice.file_name, source, capabilities, choice.backend)
    except (ModelFormatError, ArtifactNotFound) as error:
        raise type(error)(f"{what} {error}") from error
    fault = _other_processor(choice) or changed_version(choice.backend, choice.versions)
    if fault:
        raise OptionError(f"{what} does not hold here: {fault}.")
    if contents:
        check_files(choice, source, capabilities)


def carry_choice(source: Checkpoint, tree: Path) -> None:
    """Let a copy of a model keep the choice beside it, where that holds for the copy.

    Saving rewrites configuration, so the digests of those files become the copy's. A choice that
    is of another state of the model, damaged, or names a file that the copy lacks is left out.

    Args:
        tree: The copy; a choice that is in it already was beside the same weights.
    """
    copy = Checkpoint(str(tree), LocalFiles(tree))
    # As it is now: it may have been made after the model was loaded.
    beside = source if source.directory is None else Checkpoint("", LocalFiles(source.directory))
    kept = None
    for place in (beside, copy):
        with suppress(CoreError):
            choice = read_choice(place)
            files = carried_files(choice, source, copy)
            if files is not None:
                kept = dataclasses.replace(choice, files=files)
                break
    written = tree / LOCK_NAME
    written.unlink(missing_ok=True)  # rather than written to: it may be a link to another's
    if kept is not None:
        written.write_text(_as_text(kept), encoding="utf-8")


def is_on(choice: TunedChoice, device: str) -> bool:
    """Whether a device is the choice's; the first of its kind needs no number."""
    asked, own = (_DEVICE.fullmatch(name.lower()) for name in (device, choice.device))
    if asked is None or own is None:
        return False
    numbers = [int(found["number"] or 0) for found in (asked, own)]
    return asked["kind"] == own["kind"] and numbers[0] == numbers[1]


def stated_options(choice: TunedChoice) -> Mapping[str, Any]:
    """The choice's options, in the backend's own words."""
    return _stated_options(
        choice.options, registry.backend(choice.backend).capabilities, choice.backend
    )


def _check_source(capabilities: Capabilities, backend: str) -> None:
    # A directory must not decide which server texts are sent to.
    if capabilities.source == "name":
        raise ModelFormatError(f"names the {backend} backend, whose models are not files.")


def _check_device(device: str, capabilities: Capabilities, backend: str) -> None:
    found = _DEVICE.fullmatch(device.lower())
    if found is None or found["kind"] not in [known.lower() for known in capabilities.devices]:
        raise ModelFormatError(
            f"names the device {device[:80]!r}; the {backend} backend has "
            f"{', '.join(capabilities.devices)}."
        )


def _stated_options(
    options: Mapping[str, Any], capabilities: Capabilities, backend: str
) -> Mapping[str, Any]:
    given = _canonical(options)
    for stated in ({}, *capabilities.load_configs.values()):
        if given == _canonical(stated):
            return stated
    known = ", ".join(capabilities.load_configs) or "none"
    raise ModelFormatError(
        f"has options that are none of the configurations the {backend} backend states for "
        f"loading ({known})."
    )


def _canonical(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=repr)


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_canonical(options))
    return content


def _check_file(
    file_name: str | None, source: Checkpoint, capabilities: Capabilities, backend: str
) -> None:
    """Raise unless this is a file that a user might name for the backend, or none is needed."""
    static = bool(source.names) and source.architecture.is_static
    needs_none = static or not capabilities.file_names
    if file_name is None:
        if not needs_none:
            raise ModelFormatError(f"names no file, and the {backend} backend loads one.")
        return
    check_relative(file_name, f"file_name of {LOCK_NAME}")
    loads = is_file_of(file_name, capabilities) or any(
        file_name == name or file_name.endswith(f"/{name}") for name in capabilities.fallback_names
    )
    if needs_none or not loads:
        raise ModelFormatError(
            f"names {file_name[:80]!r}, which the {backend} backend does not load."
        )
    for name in (file_name, *companions(file_name, source.names, capabilities)):
        if not source.has(name):
            raise ArtifactNotFound(f"names {name!r}, and there is no such file.")
        if source.directory is not None:
            source.files.peek(name)  # a link that leads out is refused here


def _other_processor(choice: TunedChoice) -> str | None:
    if choice.machine != machine_type():
        return f"it is for {choice.machine} processors, and this one is {machine_type()}"
    missing = sorted(set(choice.flags) - set(vector_flags()))
    if missing:
        return f"it is for a processor with {', '.join(missing[:8])}, which this one lacks"
    return None


def _plain(value: Any) -> Any:
    """A number of an array library as Python's own."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
