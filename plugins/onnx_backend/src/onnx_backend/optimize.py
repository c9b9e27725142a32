"""Optimize: ONNX Runtime's own graph passes and its transformer fusions, without torch.

`onnxruntime.transformers.optimizer.optimize_model` imports torch for one check of its GPU path; its
two steps are called here one by one instead, with the same results.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import Artifact, Model, OptimizeOptions
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import DTYPE_PRECISIONS, check_names, derived_name, installed_versions
from onnx_backend.device import CPU, CUDA, available_providers, import_runtime
from onnx_backend.files import plain_path, read_model, save_model
from onnx_backend.presets import DEFAULT_NAME, OPTIMIZE_CONFIGS
from onnx_backend.quiet import quiet_options, quiet_tools
from onnx_backend.rewriting.fusion import FUSION_SWITCHES, fusion_options
from onnx_backend.rewriting.half import to_half
from onnx_backend.rewriting.values import RuntimeShapes
from onnx_backend.session import OnnxRuntime, onnx_file

logger = logging.getLogger("core")

_NAMES = ", ".join(OPTIMIZE_CONFIGS)

OPTIMIZE_OPTIONS = ("raw_attention_mask", "external_data")

#: ONNX Runtime's passes that would hide attention from the fusions after them.
_HIDING = (
    "MatMulScaleFusion",
    "MatMulAddFusion",
    "MatmulTransposeFusion",
    "GemmActivationFusion",
    "BiasSoftmaxFusion",
)
_ORT_LEVELS = {1: "ORT_ENABLE_BASIC", 2: "ORT_ENABLE_EXTENDED", 99: "ORT_ENABLE_ALL"}
#: What ONNX Runtime's fusions make of attention.
_FUSED_ATTENTION = ("Attention", "MultiHeadAttention")


@dataclass(frozen=True)
class Level:
    """What to do to a graph.

    Attributes:
        name: Suffix of the file's name.
        passes: Level of ONNX Runtime's own passes: 0 for none, 1, 2 or 99.
        fusions: Whether its transformer fusions follow.
        switches: Of `FUSION_SWITCHES`.
        for_gpu: Whether the result will run on a GPU.
        half: Convert to float16 at the end.
    """

    name: str
    passes: int
    fusions: bool
    switches: Mapping[str, bool] = field(default_factory=dict)
    for_gpu: bool = False
    half: bool = False


_NAMED = {
    "O1": Level("O1", 1, False),
    "O2": Level("O2", 2, True),
    "O3": Level("O3", 2, True, {"enable_gelu_approximation": True}),
    "O4": Level("O4", 2, True, {"enable_gelu_approximation": True}, for_gpu=True, half=True),
    "fp16": Level("fp16", 0, False, half=True),
}


def optimize_model(model: Model, target: Path, options: OptimizeOptions) -> Artifact:
    """Write the optimized graph beside the name of the file it was made from."""
    runtime = onnx_file(model, "optimize")
    check_names(options.backend_kwargs, OPTIMIZE_OPTIONS, "optimize of the onnx backend")
    level = read_level(options.config)
    raw_mask = options.backend_kwargs.get("raw_attention_mask", True)
    if level.half and runtime.dtype != "float32":
        raise UnsupportedOperation(
            f"{runtime.files[0]} computes in {runtime.dtype}; only a float32 file becomes float16. "
            "Load the float32 file (file_name=...) and optimize that."
        )
    scratch = target / ".optimize"
    scratch.mkdir()
    with quiet_tools():
        graph = _run_passes(
            plain_path(runtime, target), bool(runtime.file.external), scratch, level
        )
        if level.fusions:
            graph = _fuse(graph, level, bool(raw_mask), scratch)
            _mention_unfused(runtime, graph, level)
        if level.half:
            graph = to_half(graph, scratch)
    name = derived_name(runtime.files[0], options.file_suffix or level.name, DEFAULT_NAME)
    files = save_model(
        graph, target, name, external_data=options.backend_kwargs.get("external_data")
    )
    precision = DTYPE_PRECISIONS.get(runtime.dtype, runtime.dtype)
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision="fp16" if level.half else precision,
        config={
            "level": level.name,
            "passes": level.passes,
            "fusions": level.fusions,
            **level.switches,
            "for_gpu": level.for_gpu,
            "raw_attention_mask": bool(raw_mask),
        },
        versions=installed_versions("onnx", "onnxruntime"),
    )


def read_level(config: Any) -> Level:
    """A level's name, a mapping, or an object like Optimum's `OptimizationConfig`.

    Raises:
        OptionError: Neither, or with values that are not understood.
    """
    if config is None:
        config = next(iter(OPTIMIZE_CONFIGS))
    if isinstance(config, str):
        if config not in _NAMED:
            raise OptionError(
                f"The onnx backend optimizes to {_NAMES} or with a configuration "
                f"object, not {config!r}."
            )
        return _NAMED[config]
    if isinstance(config, Mapping):
        values = dict(config)
        known = (
            "optimization_level",
            "optimize_for_gpu",
            "fp16",
            *_OPTIMUM_EXTRA,
            *FUSION_SWITCHES,
        )
        check_names(values, known, "an optimization config")
    elif hasattr(config, "optimization_level"):
        values = {name: getattr(config, name) for name in dir(config) if not name.startswith("_")}
    else:
        raise OptionError(
            f"config must be one of {_NAMES}, a mapping or an OptimizationConfig, not {config!r}."
        )
    return _from_values(values)


#: Attributes of Optimum's configuration that are not fusion switches.
_OPTIMUM_EXTRA = (
    "enable_transformers_specific_optimizations",
    "optimize_with_onnxruntime_only",
    "disable_shape_inference",
    "use_external_data_format",
)


def _from_values(values: Mapping[str, Any]) -> Level:
    passes = values.get("optimization_level", 1)
    if passes not in (0, *_ORT_LEVELS):
        raise OptionError(f"optimization_level must be 0, 1, 2 or 99, not {passes!r}.")
    fusions = values.get("enable_transformers_specific_optimizations", True)
    if values.get("optimize_with_onnxruntime_only"):
        fusions = False
    switches = {n: bool(values[n]) for n in FUSION_SWITCHES if values.get(n) is not None}
    return Level(
        "optimized",
        passes,
        bool(fusions),
        switches,
        for_gpu=bool(values.get("optimize_for_gpu")),
        half=bool(values.get("fp16")),
    )


def _run_passes(path: Path, external: bool, scratch: Path, level: Level) -> Any:
    """The graph after ONNX Runtime's own passes, external data in memory."""
    # Passes for a GPU run on a GPU; without one the fusions do nearly all of the work.
    if level.passes == 0 or (level.for_gpu and CUDA not in available_providers()):
        return read_model(path)
    onnxruntime = import_runtime()
    options = quiet_options()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _ORT_LEVELS[level.passes]
    )
    written = scratch / "model.onnx"
    options.optimized_model_filepath = str(written)
    if external:
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{prefix}file_name", "model.onnx_data")
        options.add_session_config_entry(f"{prefix}min_size_in_bytes", "1024")
    disabled = ["ConstantSharing"]
    if level.passes > 1 and level.fusions:
        disabled += _HIDING
    onnxruntime.InferenceSession(
        str(path),
        options,
        providers=[CUDA, CPU] if level.for_gpu else [CPU],
        disabled_optimizers=disabled,
        enable_fallback=0,
    )
    return read_model(written)


def _fuse(graph: Any, level: Level, raw_mask: bool, scratch: Path) -> Any:
    """What `onnxruntime.transformers.optimizer.optimize_by_fusion` does, without sympy.

    Heads and their width come from the graph, not from config.json: it cannot be wrong about them.
    """
    from onnxruntime.transformers.onnx_model_bert import BertOnnxModel

    class Optimizer(BertOnnxModel):  # type: ignore[misc]
        shapes = RuntimeShapes(scratch)

        def infer_runtime_shape(self, *_: Any, **__: Any) -> RuntimeShapes | None:
            return self.shapes if self.shapes.update(self.model) else None

        def fuse_attention(self) -> None:
            self.shapes.update(self.model)
            self.attention_fusion.get_num_heads_and_hidden_size = self.heads_and_hidden
            super().fuse_attention()

        def heads_and_hidden(self, reshape_query: Any) -> tuple[int, int]:
            """From the shape [batch, tokens, heads, width] the query is given."""
            shape = self.shapes.get_edge_shape(reshape_query.output[0])
            if shape is None or len(shape) != 4:
                return 0, 0
            found = shape[2], shape[2] * shape[3]
            # Fused masks are repeated for every head, by this count.
            self.attention_fusion.num_heads, self.attention_fusion.hidden_size = found
            return found

    optimizer = Optimizer(graph)
    optimizer.optimize(fusion_options(level.switches, raw_mask))
    optimizer.topological_sort()
    optimizer.model.producer_name = "onnxruntime.transformers"
    optimizer.model.producer_version = import_runtime().__version__
    return optimizer.model


def _mention_unfused(runtime: OnnxRuntime, graph: Any, level: Level) -> None:
    """Say so where the fusions did not do what they are for."""
    asked = level.passes > 1 and not level.switches.get("disable_attention_fusion")
    present = runtime.file.operators
    if not asked or not present["Softmax"] or any(present[name] for name in _FUSED_ATTENTION):
        return
    if not any(node.op_type in _FUSED_ATTENTION for node in graph.graph.node):
        logger.warning(
            "%s: none of its attention was fused, because ONNX Runtime knows no pattern like it "
            "(it knows those of BERT and similar models, exported with "
            "attn_implementation='eager'). The file of %s has the other fusions only.",
            runtime.files[0],
            level.name,
        )
