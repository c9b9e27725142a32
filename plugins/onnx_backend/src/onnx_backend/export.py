"""Export: the torch backend's transformer, traced and written as an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from core import Artifact, Checkpoint, ExportOptions
from core.errors import ModelFormatError, OptionError, UnsupportedOperation
from core.toolkit import (
    announce,
    artifact_name,
    check_exporter,
    check_inputs,
    check_names,
    installed_versions,
    open_source,
)
from onnx_backend.files import write_model
from onnx_backend.optimum import export_with_optimum
from onnx_backend.quiet import quiet_tracer
from onnx_backend.rewriting.half import to_half

EXPORTERS = ("direct", "optimum")
EXPORT_OPTIONS = ("opset", "external_data")
#: Every operator ONNX Runtime's transformer fusions look for exists in it, with the meaning they
#: expect; newer ones bring nothing an encoder uses.
DEFAULT_OPSET = 18
OPSETS = range(14, 21)


def export_model(source: Checkpoint, target: Path, options: ExportOptions, origin: str) -> Artifact:
    """Write `onnx/model.onnx`, or `onnx/model_fp16.onnx` for half precision.

    Args:
        origin: The backend whose model is traced.

    Raises:
        UnsupportedOperation: No torch backend is installed, or the architecture cannot be traced.
    """
    check_exporter("onnx", options.exporter, EXPORTERS)
    extra = options.backend_kwargs
    check_names(extra, EXPORT_OPTIONS, "export of the onnx backend")
    opset = extra.get("opset") or DEFAULT_OPSET
    if opset not in OPSETS:
        raise OptionError(f"opset must lie from {OPSETS[0]} to {OPSETS[-1]}, not {opset!r}.")
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = artifact_name(options.file_name, f"onnx/model{suffix}.onnx")
    scratch = target / ".export"
    scratch.mkdir()
    if options.exporter == "optimum":
        traced, used = export_with_optimum(source, scratch, options, int(opset))
    else:
        traced, used = trace(source, scratch, options, int(opset), origin)
    convert = to_half if options.precision == "fp16" else None
    external = extra.get("external_data")
    files = write_model(traced, target, name, convert=convert, external_data=external)
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision=options.precision,
        config={"precision": options.precision, "exporter": options.exporter, "opset": opset},
        versions={**installed_versions("onnx", "onnxruntime"), **used},
    )


def trace(
    source: Checkpoint, scratch: Path, options: ExportOptions, opset: int, origin: str
) -> tuple[Path, Mapping[str, str]]:
    """An ONNX file in `scratch` that gives `last_hidden_state`, or the `logits` of a head, and what
    made it."""
    path = scratch / "model.onnx"
    with (
        open_source(source, options, "ONNX", origin) as model,
        model.runtime.traceable(source, "an ONNX graph") as (module, example),
    ):
        announce("tracing the model into an ONNX graph")
        _export_module(module, example, model.runtime, path, opset)
    _check_mask(source, path)
    return path, installed_versions("torch", "transformers")


def _check_mask(source: Checkpoint, path: Path) -> None:
    """Refuse the graph of a model that reads no mask, which loading would refuse."""
    inputs = [entry.name for entry in onnx.load(path, load_external_data=False).graph.input]
    try:
        check_inputs(source.architecture, inputs, path.name)
    except ModelFormatError as error:
        raise UnsupportedOperation(
            f"{source} computes nothing from the attention mask, and so an ONNX graph of it has "
            "none. Does config.json give it all its layers? If so, use the torch backend."
        ) from error


def _export_module(
    module: Any, example: tuple[Any, ...], runtime: Any, path: Path, opset: int
) -> None:
    """Trace a module that takes the runtime's `input_names`; the graph takes any batch and length.

    Args:
        runtime: The source's, which says what the module takes and gives.
    """
    import torch

    names: Sequence[str] = runtime.input_names
    output = getattr(runtime, "output_name", "last_hidden_state")
    axes = {0: "batch", 1: "tokens"}
    outputs = {
        output: getattr(runtime, "output_axes", ("batch", "tokens")),
        **getattr(runtime, "further_outputs", {}),
    }
    varying = {name: dict(enumerate(sizes)) for name, sizes in outputs.items()}
    with quiet_tracer():
        torch.onnx.export(
            module,
            example,
            str(path),
            dynamo=False,
            opset_version=opset,
            do_constant_folding=True,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes={**dict.fromkeys(names, axes), **varying},
        )
