"""A graph's files: which belong together, reading and writing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from core import Checkpoint
from core.errors import ArtifactNotFound, ModelFormatError
from core.toolkit import HeldFiles, external_files, plain_folder, read_onnx_file
from openvino_backend.imports import openvino

#: OpenVINO's reader of each kind of file, and what the kind is called.
_READERS = {".xml": ("ir", "OpenVINO"), ".onnx": ("onnx", "ONNX")}
#: Where an .xml file says which bytes of the .bin file a constant is.
_CONSTANT = re.compile(rb'<data\s[^<>]*\boffset="(\d{1,18})"\s+size="(\d{1,18})"')


def graph_files(source: Checkpoint, file_name: str) -> list[str]:
    """Every file of the graph: weights of an .xml, external data of an .onnx.

    Raises:
        ArtifactNotFound: An .xml without its .bin.
        ModelFormatError: Neither kind of file, or external data that is missing or lies outside.
    """
    if not file_name.endswith(tuple(_READERS)):
        raise ModelFormatError(
            f"OpenVINO reads .xml and .onnx files, not {file_name!r}. Name one of those with "
            "file_name."
        )
    if file_name.endswith(".onnx"):
        # OpenVINO opens whatever the file names, and takes some names for addresses in memory.
        found = read_onnx_file(source.path(file_name), f"{source}: {file_name}")
        return [file_name, *external_files(source, file_name, found.external)]
    weights = weights_name(file_name)
    if not source.has(weights):
        raise ArtifactNotFound(
            f"{source} has {file_name} without its weights {weights}. Copy or download that file "
            "too, or export the model again with core.export(..., backend='openvino')."
        )
    return [file_name, weights]


def weights_name(file_name: str) -> str:
    """The weights' file of an .xml file."""
    return str(PurePosixPath(file_name).with_suffix(".bin"))


class ReadGraph(NamedTuple):
    """A graph, the files it was read from, and the same held open."""

    model: openvino.Model
    files: tuple[str, ...]
    held: HeldFiles


def read_graph(runtime: openvino.Core, source: Checkpoint, file_name: str) -> ReadGraph:
    """Read a graph from its files; weights are mapped into memory, not copied.

    Raises:
        ModelFormatError: The file is not a model, or a damaged one.
    """
    names = graph_files(source, file_name)
    held = HeldFiles([source.path(name) for name in names], str(source))
    with _folder(source, names) as folder:
        path = folder / file_name
        _check_kind(source, path, file_name)
        try:
            if path.suffix == ".xml":
                graph = runtime.read_model(path, folder / names[1])
            else:
                graph = runtime.read_model(path)
        except RuntimeError as error:
            _check_weights(source, path, file_name)
            raise ModelFormatError(
                f"{source}: OpenVINO cannot read {file_name} as a model ({reason(error)}). It is "
                "no model, damaged, or from a newer OpenVINO. Restore or download it again with "
                "its weights, or export it anew with core.export(..., backend='openvino')."
            ) from error
    held.check_in_place()
    return ReadGraph(graph, tuple(names), held)


def _folder(source: Checkpoint, names: Sequence[str]) -> AbstractContextManager[Path]:
    # Its reader of ONNX files refuses external data that is a link, as everything in the Hub's
    # cache is.
    if names[0].endswith(".onnx") and len(names) > 1:
        return plain_folder(source, names)
    return nullcontext(source.folder(names))


def _check_kind(source: Checkpoint, path: Path, file_name: str) -> None:
    # A file that its own reader refuses would be offered to those of other frameworks, of which
    # TensorFlow's writes to stderr.
    reader, kind = _READERS[path.suffix]
    try:
        known = openvino.frontend.FrontEndManager().load_by_framework(reader).supported(str(path))
    except RuntimeError:  # of a version that is no number
        known = False
    if not known:
        raise ModelFormatError(
            f"{source}: {file_name} is not an {kind} model, or of a version this OpenVINO "
            "does not read. Restore or download it again, or name another file with file_name."
        )


def _check_weights(source: Checkpoint, path: Path, file_name: str) -> None:
    """Raise `ModelFormatError` where the weights of an .xml file are truncated."""
    if path.suffix != ".xml":
        return
    ends = [int(offset) + int(size) for offset, size in _CONSTANT.findall(path.read_bytes())]
    needed, found = max(ends, default=0), path.with_suffix(".bin").stat().st_size
    if found < needed:
        raise ModelFormatError(
            f"{source}: {weights_name(file_name)} has {found} bytes of {needed} that {file_name} "
            "needs: it is truncated, or belongs to another model. Copy or download it again."
        )


def reason(error: Exception) -> str:
    """What OpenVINO says, without the places in its source code."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [
        line
        for line in lines
        if line and not line.startswith(("Exception from src", "Check '")) and ".cpp:" not in line
    ]
    message = " ".join(told or [line for line in lines if line][-1:])[:300]
    return message.rstrip(".") or type(error).__name__


def write_graph(graph: openvino.Model, target: Path, file_name: str, *, half: bool = False) -> None:
    """Write a graph and its weights under `target`; `half` stores float32 weights as float16."""
    place = target / file_name
    place.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(graph, place, compress_to_fp16=half)


def graph_names(file_name: str) -> tuple[str, ...]:
    """The files `write_graph` writes."""
    return (file_name, weights_name(file_name))
