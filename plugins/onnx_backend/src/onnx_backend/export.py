"""Export: the torch backend's transformer, traced and written as an ONNX graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from core import Artifact, Checkpoint, ExportOptions
from core.errors import ModelFormatError, OptionError
from core.files.paths import check_relative
from core.machine.process_wide import process_wide
from core.operations.origin import open_source
from core.options import check_names
from onnx_backend.files import versions, write_model
from onnx_backend.plugin import EXPORTS_FROM
from onnx_backend.rewriting.half import to_half
from torch_backend.traceable import last_hidden_state, tracing

EXPORTERS = ("direct", "optimum")
EXPORT_OPTIONS = ("opset", "external_data")
#: Every operator ONNX Runtime's transformer fusions look for exists in it, with the meaning they
#: expect; newer ones bring nothing an encoder uses.
DEFAULT_OPSET = 18
OPSETS = range(14, 21)


def export_model(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `onnx/model.onnx`, or `onnx/model_fp16.onnx` for half precision.

    Raises:
        UnsupportedOperation: No torch backend is installed, or the architecture cannot be traced.
    """
    if options.exporter not in EXPORTERS:
        raise OptionError(
            f"The onnx backend exports with {' or '.join(map(repr, EXPORTERS))}, not "
            f"{options.exporter!r}."
        )
    extra = options.backend_kwargs
    check_names(extra, EXPORT_OPTIONS, "export of the onnx backend")
    opset = extra.get("opset") or DEFAULT_OPSET
    if opset not in OPSETS:
        raise OptionError(f"opset must lie from {OPSETS[0]} to {OPSETS[-1]}, not {opset!r}.")
    name = _artifact_name(options)
    scratch = target / ".export"
    scratch.mkdir()
    if options.exporter == "optimum":
        from onnx_backend.optimum import export_with_optimum

        traced, used = export_with_optimum(source, scratch, options, int(opset))
    else:
        traced, used = trace(source, scratch, options, int(opset))
    convert = to_half if options.precision == "fp16" else None
    external = extra.get("external_data")
    files = write_model(traced, target, name, convert=convert, external_data=external)
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision=options.precision,
        config={"precision": options.precision, "exporter": options.exporter, "opset": opset},
        versions={**versions("onnx", "onnxruntime"), **used},
    )


def _artifact_name(options: ExportOptions) -> str:
    """Where the file goes; checked before any work, for tracing may take minutes."""
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = options.file_name or f"onnx/model{suffix}.onnx"
    if PurePosixPath(name).suffix != ".onnx":
        raise OptionError(
            f"file_name={name!r} is no name of an ONNX file: it must end in .onnx, as in "
            "'onnx/model.onnx', so that it is found again and takes no other file's place."
        )
    try:
        check_relative(name, "file_name")
    except ModelFormatError as error:
        raise OptionError(
            f"file_name={name!r} must lie inside the target directory: give a relative path "
            "without '..', and the directory itself as target."
        ) from error
    return name


def trace(
    source: Checkpoint, scratch: Path, options: ExportOptions, opset: int
) -> tuple[Path, Mapping[str, str]]:
    """An ONNX file in `scratch` that gives `last_hidden_state`, and what made it."""
    path = scratch / "model.onnx"
    with (
        open_source(source, options, "ONNX", EXPORTS_FROM) as model,
        tracing(source, "an ONNX graph"),
    ):
        _export_module(model.runtime.module, model.runtime.input_names, path, opset)
    return path, versions("torch", "transformers")


def _export_module(module: Any, names: Sequence[str], path: Path, opset: int) -> None:
    """Trace a transformer whose forward takes `names`; the graph takes any batch and length."""
    import torch

    module, example = last_hidden_state(module, names)
    axes = {0: "batch", 1: "tokens"}
    with _quiet():
        torch.onnx.export(
            module,
            example,
            str(path),
            dynamo=False,
            opset_version=opset,
            do_constant_folding=True,
            input_names=list(names),
            output_names=["last_hidden_state"],
            dynamic_axes=dict.fromkeys((*names, "last_hidden_state"), axes),
        )


@process_wide
@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter logs of its own steps."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
