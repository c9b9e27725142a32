"""Export: the torch backend's transformer, traced and written as an OpenVINO graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import core
from core import Artifact, Checkpoint, ExportOptions, LoadOptions
from core.errors import CoreError, OptionError, UnsupportedOperation
from core.options import check_names
from openvino_backend.compress import COMPRESSION_OPTIONS, compress_weights
from openvino_backend.graph import graph_names, write_graph
from openvino_backend.imports import openvino

EXPORTERS = ("direct", "optimum")


def export_model(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `openvino/openvino_model.xml`, or `..._<precision>.xml` for another than fp32."""
    if options.exporter not in EXPORTERS:
        raise OptionError(
            f"The openvino backend exports with {' or '.join(map(repr, EXPORTERS))}, not "
            f"{options.exporter!r}."
        )
    compressed = options.precision in ("int8", "int4")
    known = COMPRESSION_OPTIONS if compressed else ()
    check_names(options.backend_kwargs, known, f"export {options.precision!r} of openvino")
    if options.exporter == "optimum":
        from openvino_backend.optimum import convert_with_optimum

        graph, versions = convert_with_optimum(source, options)
    else:
        graph, versions = convert(source, options)
    config: dict[str, Any] = {"precision": options.precision, "exporter": options.exporter}
    if compressed:
        graph, used = compress_weights(graph, options.precision, options.backend_kwargs)
        config.update(used)
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = options.file_name or f"openvino/openvino_model{suffix}.xml"
    write_graph(graph, target, name, half=options.precision == "fp16")
    return Artifact(
        root=target,
        file_name=name,
        files=graph_names(name),
        precision=options.precision,
        config=config,
        versions={"openvino": openvino.__version__, **versions},
    )


def convert(source: Checkpoint, options: ExportOptions) -> tuple[Any, Mapping[str, str]]:
    """The graph of last_hidden_state with dynamic batch and length, and what made it."""
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        # Other attention implementations trace into graphs that fix shapes, or that give NaN for
        # rows without a single visible token.
        model_kwargs={"attn_implementation": "eager", **options.model_kwargs},
        config_kwargs=options.config_kwargs,
    )
    with core.hooks("torch").load(source, load) as model:
        try:
            graph = trace(model.runtime.module, model.runtime.input_names)
        except CoreError:
            raise
        except Exception as error:
            kind = source.architecture.model_type or type(model.runtime.module).__name__
            raise UnsupportedOperation(
                f"{source} ({kind}) cannot be traced into an OpenVINO graph: "
                f"{type(error).__name__}: {str(error)[:300]}. Try exporter='optimum', which knows "
                "more architectures and needs `pip install core[optimum]`."
            ) from error
    import torch
    import transformers

    return graph, {"torch": torch.__version__, "transformers": transformers.__version__}


def trace(module: Any, names: Sequence[str]) -> Any:
    """Trace a transformer whose forward takes `names`; the result takes any batch and length."""
    import torch

    extra = {"use_cache": False} if "use_cache" in signature(module.forward).parameters else {}

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> Any:
            inputs = dict(zip(names, tensors, strict=True))
            return self.module(**inputs, **extra).last_hidden_state

    module.float()
    example = tuple(torch.ones((2, 16), dtype=torch.int64) for _ in names)
    with torch.no_grad(), warnings.catch_warnings():
        # What the tracer warns of, constants that depend on the traced shape, the verification
        # after every export looks for: it runs other shapes.
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(LastHiddenState().eval(), example_input=example)
    for name, port in zip(names, graph.inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        port.get_node().set_element_type(openvino.Type.i64)
    graph.outputs[0].get_tensor().set_names({"last_hidden_state"})
    graph.validate_nodes_and_infer_types()
    return graph
