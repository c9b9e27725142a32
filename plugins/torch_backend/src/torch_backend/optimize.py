"""Optimize: half precision as a file of weights, `torch.compile` as a configuration."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from core import Artifact, Model, OptimizeOptions
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import DTYPE_PRECISIONS, check_names
from torch_backend.compiled import COMPILE_OPTIONS, CompiledConfig, check_compile_options
from torch_backend.device import DTYPES
from torch_backend.files import write_module
from torch_backend.presets import OPTIMIZE_CONFIGS
from torch_backend.session import TorchRuntime, module_of


def optimize_model(model: Model, target: Path, options: OptimizeOptions) -> Artifact:
    """Write what `options.config` names: `"compile"` (the default), `"fp16"` or `"bf16"`."""
    level = next(iter(OPTIMIZE_CONFIGS)) if options.config is None else options.config
    if level not in OPTIMIZE_CONFIGS:
        raise OptionError(
            f"The torch backend optimizes to {', '.join(OPTIMIZE_CONFIGS)}, not {level!r}."
        )
    runtime = module_of(model, "optimize")
    if runtime.dtype == "int8" or runtime.compile_options is not None:
        raise UnsupportedOperation(
            f"{model.file_name} is already quantized or compiled; optimize the model's own weights."
        )
    suffix = options.file_suffix or level
    if level == "compile":
        return _compile(model, runtime, target, suffix, options)
    check_names(options.backend_kwargs, (), f"optimize {level!r} of the torch backend")
    name = model.source.architecture.file(f"model_{suffix}.safetensors")
    write_module(copy.deepcopy(runtime.module).to(DTYPES[level]), target / name)
    return Artifact(
        root=target,
        file_name=name,
        precision=level,
        config={"level": level},
        versions={"torch": torch.__version__},
    )


def _compile(
    model: Model,
    runtime: TorchRuntime,
    target: Path,
    suffix: str,
    options: OptimizeOptions,
) -> Artifact:
    check_names(options.backend_kwargs, COMPILE_OPTIONS, "optimize 'compile' of the torch backend")
    compile_options = {"dynamic": True, **options.backend_kwargs}
    check_compile_options(compile_options)
    name = f"torch/model_{suffix}.json"
    CompiledConfig(model.file_name or "model.safetensors", compile_options).write(target / name)
    return Artifact(
        root=target,
        file_name=name,
        precision=DTYPE_PRECISIONS[runtime.dtype],
        refers_to=model.weight_files,
        config={"level": "compile", **compile_options},
        versions={"torch": torch.__version__},
    )
