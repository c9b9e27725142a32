"""Export: the torch backend's transformer, traced and written as an OpenVINO graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import Artifact, Checkpoint, ExportOptions
from core.toolkit import (
    announce,
    artifact_name,
    check_exporter,
    check_names,
    installed_versions,
    open_source,
)
from openvino_backend.compress import compress_weights, compression_settings
from openvino_backend.files import graph_names, write_graph
from openvino_backend.imports import import_nncf, import_quietly, openvino, unreported
from openvino_backend.optimum import convert_with_optimum
from openvino_backend.quiet import root_logger_kept

EXPORTERS = ("direct", "optimum")


def export_model(source: Checkpoint, target: Path, options: ExportOptions, origin: str) -> Artifact:
    """Write `openvino/openvino_model.xml`, or `..._<precision>.xml` for another than fp32.

    Args:
        origin: The backend whose model is traced.
    """
    check_exporter("openvino", options.exporter, EXPORTERS)
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = artifact_name(options.file_name, f"openvino/openvino_model{suffix}.xml")
    what = f"export {options.precision!r} of the openvino backend"
    compression: dict[str, Any] | None = None
    versions = {"openvino": openvino.__version__}
    if options.precision in ("int8", "int4"):
        compression = compression_settings(options.precision, options.backend_kwargs, what)
        # Tracing takes long: what is missing afterwards shows before.
        versions["nncf"] = import_nncf(what.capitalize()).__version__
    else:
        check_names(options.backend_kwargs, (), what)
    if options.exporter == "optimum":
        graph, made_by = convert_with_optimum(source, options)
    else:
        graph, made_by = convert(source, options, origin)
    if compression is not None:
        graph = compress_weights(graph, options.precision, compression)
    write_graph(graph, target, name, half=options.precision == "fp16")
    return Artifact(
        root=target,
        file_name=name,
        files=graph_names(name),
        precision=options.precision,
        config={
            "precision": options.precision,
            "exporter": options.exporter,
            **(compression or {}),
        },
        versions={**versions, **made_by},
    )


def convert(
    source: Checkpoint, options: ExportOptions, origin: str
) -> tuple[Any, Mapping[str, str]]:
    """The graph of last_hidden_state, or of logits, for batches of any shape, and what made it."""
    with (
        open_source(source, options, "OpenVINO", origin) as model,
        model.runtime.traceable(source, "an OpenVINO graph") as (module, example),
    ):
        announce("tracing the model into an OpenVINO graph")
        graph = trace(module, example, model.runtime)
    return graph, installed_versions("torch", "transformers")


def trace(module: Any, example: tuple[Any, ...], runtime: Any) -> Any:
    """Trace a module that takes the runtime's `input_names`; the graph takes any batch and length.

    Args:
        runtime: The source's, which says what the module takes and gives.
    """
    names: Sequence[str] = runtime.input_names
    with unreported(), root_logger_kept():
        # The graph is verified: tracing once more and comparing would be for nothing.
        decoder = import_quietly("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder(
            module, example_input=example, trace_kwargs={"check_trace": False}
        )
        graph = openvino.convert_model(decoder, example_input=example)
    for name, port in zip(names, graph.inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        port.get_node().set_element_type(openvino.Type.i64)
    first = getattr(runtime, "output_name", "last_hidden_state")
    for name, port in zip(
        (first, *getattr(runtime, "further_outputs", ())), graph.outputs, strict=True
    ):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    return graph
