"""Reading and writing ONNX models as whole: external data, names, versions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from core.errors import OptionError
from core.toolkit import copy_file

#: A protocol buffer message cannot be larger; what is goes into a second file.
MAX_BYTES = 2**31 - 1
#: Left for everything but the weights.
_RESERVE = 64 * 2**20
_EXTERNAL_THRESHOLD = 1024


def read_model(path: Path) -> Any:
    """The `onnx.ModelProto` with its external data in memory."""
    return onnx.load(str(path))


def write_model(
    traced: Path,
    target: Path,
    name: str,
    *,
    convert: Callable[[Any, Path], Any] | None = None,
    external_data: bool | None = None,
) -> tuple[str, ...]:
    """Move an ONNX file to `target / name`, through `convert`; removes the folder it was in.

    Returns the names written, relative to `target`. A file over 2 GB, or any with
    `external_data=True`, keeps its weights in `<name>_data` beside it.
    """
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    alone = len(list(traced.parent.iterdir())) == 1
    if alone and convert is None and not external_data:
        traced.replace(place)
        files: tuple[str, ...] = (name,)
    else:
        model = read_model(traced)
        if convert is not None:
            model = convert(model, traced.parent)
        files = save_model(model, target, name, external_data=external_data)
    shutil.rmtree(traced.parent)
    return files


def save_model(
    model: Any, target: Path, name: str, *, external_data: bool | None = None
) -> tuple[str, ...]:
    """Write a model to `target / name`; returns the names written, relative to `target`."""
    if external_data not in (None, True, False):
        raise OptionError(f"external_data must be True, False or None, not {external_data!r}.")
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    size = 0 if external_data else _bytes_of(model)
    if external_data is False and size >= MAX_BYTES:
        raise OptionError("The model is over 2 GB and needs external_data=True (or None).")
    if not external_data and size < MAX_BYTES - _RESERVE:
        onnx.save(model, str(place))
        return (name,)
    data = PurePosixPath(name).name + "_data"
    (place.parent / data).unlink(missing_ok=True)  # written by an earlier call: it would grow
    onnx.save(
        model,
        str(place),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data,
        size_threshold=_EXTERNAL_THRESHOLD,
    )
    return (name, str(PurePosixPath(name).parent / data))


def _bytes_of(model: Any) -> int:
    """Bytes of a model written as one message, or `MAX_BYTES` for one that cannot be."""
    try:
        size: int = model.ByteSize()
    except EncodeError:  # protobuf 7; before it the number of a larger message was negative
        return MAX_BYTES
    return size if 0 <= size < MAX_BYTES else MAX_BYTES


def plain_path(runtime: Any, target: Path) -> Path:
    """The runtime's ONNX file with its external data beside it as plain files.

    The Hub's cache holds links, and the `onnx` package refuses external data that is a link of
    either kind: there the files are copied into a folder of `target`.
    """
    path: Path = runtime.path
    if not any(file.is_symlink() or file.stat().st_nlink > 1 for file in _external(runtime)):
        return path
    return copied_path(runtime, target)


def copied_path(runtime: Any, target: Path) -> Path:
    """A copy of the runtime's ONNX file and its external data, in a folder of `target`.

    For tools that write beside what they read.
    """
    path: Path = runtime.path
    folder = target / ".source"
    for file in (path, *_external(runtime)):
        copy_file(file, folder / file.relative_to(path.parent))
    return folder / path.name


def _external(runtime: Any) -> list[Path]:
    return [runtime.path.parent / location for location in runtime.file.external]
