"""Export: the torch backend's transformer, traced and written as an OpenVINO graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import Artifact, Checkpoint, ExportOptions
from core.errors import OptionError
from core.operations.origin import open_source
from core.options import check_names
from openvino_backend.compress import compress_weights, compression_settings
from openvino_backend.graph import check_graph_name, graph_names, write_graph
from openvino_backend.imports import import_nncf, openvino
from openvino_backend.plugin import EXPORTS_FROM
from torch_backend.traceable import last_hidden_state, tracing

EXPORTERS = ("direct", "optimum")


def export_model(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `openvino/openvino_model.xml`, or `..._<precision>.xml` for another than fp32."""
    if options.exporter not in EXPORTERS:
        raise OptionError(
            f"The openvino backend exports with {' or '.join(map(repr, EXPORTERS))}, not "
            f"{options.exporter!r}."
        )
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = options.file_name or f"openvino/openvino_model{suffix}.xml"
    check_graph_name(name)
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
        from openvino_backend.optimum import convert_with_optimum

        graph, made_by = convert_with_optimum(source, options)
    else:
        graph, made_by = convert(source, options)
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


def convert(source: Checkpoint, options: ExportOptions) -> tuple[Any, Mapping[str, str]]:
    """The graph of last_hidden_state with dynamic batch and length, and what made it."""
    with (
        open_source(source, options, "OpenVINO", EXPORTS_FROM) as model,
        tracing(source, "an OpenVINO graph"),
    ):
        graph = trace(model.runtime.module, model.runtime.input_names)
    import torch
    import transformers

    return graph, {"torch": torch.__version__, "transformers": transformers.__version__}


def trace(module: Any, names: Sequence[str]) -> Any:
    """Trace a transformer whose forward takes `names`; the result takes any batch and length."""
    module, example = last_hidden_state(module, names)
    graph = openvino.convert_model(module, example_input=example)
    for name, port in zip(names, graph.inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        port.get_node().set_element_type(openvino.Type.i64)
    graph.outputs[0].get_tensor().set_names({"last_hidden_state"})
    graph.validate_nodes_and_infer_types()
    return graph
