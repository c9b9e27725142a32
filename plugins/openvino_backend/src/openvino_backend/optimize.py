"""Optimize: half-precision storage, and pooling and normalization inside the file."""

from __future__ import annotations

from pathlib import Path

from core import Artifact, Model, OptimizeOptions
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import HEAD_OUTPUTS, check_names, derived_name
from openvino_backend.files import graph_names, read_graph, write_graph
from openvino_backend.graph import graph_precision, joined, only, outputs, vector_outputs
from openvino_backend.imports import openvino
from openvino_backend.modules import append_modules, append_token_modules
from openvino_backend.presets import DEFAULT_NAME, OPTIMIZE_CONFIGS


def optimize_model(model: Model, target: Path, options: OptimizeOptions) -> Artifact:
    """Write what `options.config` names.

    `"fp16"` (the default) halves the file; a CPU widens the weights again when it loads them.
    `"fused"` puts pooling and what follows into the file, whose one output is then
    `sentence_embedding`: for other programs, which need no module chain to run it.
    """
    level = next(iter(OPTIMIZE_CONFIGS)) if options.config is None else options.config
    if level not in OPTIMIZE_CONFIGS:
        raise OptionError(
            f"The openvino backend optimizes to {' or '.join(OPTIMIZE_CONFIGS)}, not {level!r}."
        )
    check_names(options.backend_kwargs, (), f"optimize {level!r} of the openvino backend")
    if model.file_name is None:
        raise UnsupportedOperation(f"{model!r} is a table of static embeddings: no graph.")
    graph = read_graph(openvino.Core(), model.source, model.file_name).model
    stored = graph_precision(graph)
    if level == "fused":
        graph = _fused(graph, model)
    elif stored != "fp32":
        raise UnsupportedOperation(
            f"{model.file_name} stores {stored} weights already; optimize 'fp16' starts from fp32."
        )
    precision = "fp16" if level == "fp16" else stored
    name = derived_name(model.file_name, options.file_suffix or level, DEFAULT_NAME)
    write_graph(graph, target, name, half=level == "fp16")
    return Artifact(
        root=target,
        file_name=name,
        files=graph_names(name),
        precision=precision,
        config={"level": level},
        versions={"openvino": openvino.__version__},
    )


def _fused(graph: openvino.Model, model: Model) -> openvino.Model:
    architecture = model.source.architecture
    if architecture.head is not None:
        raise UnsupportedOperation(
            f"{model.file_name} holds its head already: 'fused' is for embedding models."
        )
    modules = architecture.modules
    if architecture.kind == "multi_vector":
        tokens, vectors = vector_outputs(graph, architecture)
        if tokens is None or vectors is not None:
            raise UnsupportedOperation(
                f"{model.file_name} holds its projection already: 'fused' is for a file that gives "
                "token embeddings alone."
            )
        return append_token_modules(only(graph, tokens), modules)
    tokens, _ = outputs(graph)
    fused = None if tokens is None else append_modules(only(graph, tokens), modules)
    if fused is None:
        chain = ", ".join(type(module).__name__ for module in modules)
        raise UnsupportedOperation(
            f"{model.file_name} cannot be fused with its modules ({chain}): the file has no token "
            "embeddings or no attention mask, or the model leaves prompts out of pooling, which "
            "differ from call to call."
        )
    heads = [port for port in graph.outputs if port.get_names() & set(HEAD_OUTPUTS.values())]
    return joined(graph, [*fused.outputs, *heads]) if heads else fused
