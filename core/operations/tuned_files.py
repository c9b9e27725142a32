"""The files that a choice of `core tune` is about: which decide, and are they still the same?"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from core.artifacts.tuned import LOCK_NAME, TunedChoice
from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError, ModelFormatError
from core.files.fingerprint import fingerprint_of
from core.files.paths import check_relative
from core.files.weights import WEIGHT_FILES
from core.operations.file_choice import companions, read_sidecar
from core.operations.model_files import DECIDING_FILES
from core.plugin.capabilities import Capabilities
from core.plugin.known_backends import KNOWN_FILES

#: What a model's other files are made from, first choice first.
_WEIGHTS = tuple(file for name in WEIGHT_FILES for file in (name, f"{name}.index.json"))


def record_files(
    source: Checkpoint, capabilities: Capabilities, file_name: str | None
) -> dict[str, str]:
    """Digest of every file that decides: configuration, the backend's file, and the weights."""
    names = {
        *_configuration(source),
        *_needed(source, capabilities, file_name),
        *_weights(source),
    }
    return {name: _digest(source, name) for name in sorted(names)}


def check_files(choice: TunedChoice, source: Checkpoint, capabilities: Capabilities) -> None:
    """Raise `ModelFormatError` unless the files are those that the choice was made for."""
    what = f"{source}: {LOCK_NAME}"
    needed = _needed(source, capabilities, choice.file_name)
    configuration = _configuration(source)
    for name in (*needed, *configuration):
        if name not in choice.files:
            raise ModelFormatError(f"{what} does not know {name}, which is new since.")
    # Source weights may be gone where the model is only run, and are not downloaded for this.
    looked_at = choice.files if source.directory is not None else (*needed, *configuration)
    for name in looked_at:
        check_relative(name, f"a file of {LOCK_NAME}")
        if not source.has(name):
            if _is_configuration(source, name):
                raise ModelFormatError(f"{what} was made with {name}, which is gone.")
            continue
        if source.available(name) and _digest(source, name) != choice.files[name]:
            raise ModelFormatError(
                f"{what} is of another state of the model: {name} has changed since."
            )


def carried_files(
    choice: TunedChoice, source: Checkpoint, copy: Checkpoint
) -> dict[str, str] | None:
    """What a choice records of a saved copy, whose configuration may be written anew.

    None where the copy lacks a file that it names, or the source is of another state.
    """
    if choice.file_name is not None and not copy.has(choice.file_name):
        return None
    weights = set(_weights(source))
    needs_weights = choice.file_name is None or choice.file_name in weights
    files = {}
    for name, digest in choice.files.items():
        written = _is_configuration(source, name)
        if copy.has(name):
            before = source if written and source.available(name) else copy
            if _digest(before, name) != digest:
                return None
            files[name] = _digest(copy, name)
        elif not written and (needs_weights or name not in weights):
            return None
    return files | {name: _digest(copy, name) for name in _configuration(copy)}


def _needed(source: Checkpoint, capabilities: Capabilities, file_name: str | None) -> list[str]:
    """The file to load and its companions; the weights of a model without such a file."""
    if file_name is None:
        return _weights(source)
    listed = _sidecar_files(source, file_name)
    return list(
        dict.fromkeys([file_name, *companions(file_name, source.names, capabilities), *listed])
    )


def _sidecar_files(source: Checkpoint, file_name: str) -> Iterator[str]:
    """Files that an artifact's sidecar lists, as far as they are there."""
    listed = read_sidecar(source, file_name).get("files")
    for name in listed if isinstance(listed, list) else ():
        if isinstance(name, str) and name in source.names:
            yield name


def _configuration(source: Checkpoint) -> list[str]:
    return [name for name in source.names if _is_configuration(source, name)]


def _is_configuration(source: Checkpoint, name: str) -> bool:
    architecture = source.architecture
    folders = [folder for _, folder in architecture.entries[1:] if folder]
    if any(name.startswith(f"{folder}/") for folder in folders):
        return True
    folder, _, file = name.rpartition("/")
    beside = folder in ("", architecture.path)
    return beside and any(fnmatchcase(file, pattern) for pattern in DECIDING_FILES)


def _weights(source: Checkpoint) -> list[str]:
    """The model's weights, as PyTorch has them; none where they were left out."""
    architecture = source.architecture
    for name in map(architecture.file, _WEIGHTS):
        if source.has(name):
            torch = Capabilities(files=KNOWN_FILES["torch"])
            return [name, *companions(name, source.names, torch)]
    return []


def _digest(source: Checkpoint, name: str) -> str:
    path = source.files.peek(name)
    try:
        return fingerprint_of(path, whole=_is_configuration(source, name))
    except OSError as error:
        raise CoreError(f"Cannot read {path}: {error}.") from error
