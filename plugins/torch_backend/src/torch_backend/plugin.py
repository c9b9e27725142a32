"""The PyTorch backend's hooks. Runtimes are imported inside, so naming it stays cheap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import core
from torch_backend.presets import CALIBRATED_CONFIGS as CALIBRATED_CONFIGS
from torch_backend.presets import NEEDS as NEEDS
from torch_backend.presets import OPTIMIZE_CONFIGS as OPTIMIZE_CONFIGS
from torch_backend.presets import QUANTIZE_CONFIGS as QUANTIZE_CONFIGS

if TYPE_CHECKING:
    from core import (
        Artifact,
        Checkpoint,
        EncodeOptions,
        ExportOptions,
        LoadOptions,
        Model,
        OptimizeOptions,
        QuantizeOptions,
        SaveOptions,
    )

SPEC_VERSION = 1
DEVICES = ("cpu", "cuda", "mps", "xpu")
PRECISIONS = ("fp32", "fp16", "bf16")
FILE_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
FILES = {
    "model.safetensors": (),
    "model.safetensors.index.json": ("model-*.safetensors",),
    "pytorch_model.bin": (),
    "pytorch_model.bin.index.json": ("pytorch_model-*.bin",),
    "model_*.safetensors": (),
    "torch/model_*.json": (),
}
MODEL_KWARGS = ("dtype", "torch_dtype", "attn_implementation", "packed", "share_weights")
EXPORTS_FROM = "torch"
KINDS = ("embedding", "reranker", "sparse", "multi_vector")
OUTPUTS = ("dense", "sparse", "multi_vector")


@core.hookimpl
def load(source: Checkpoint, options: LoadOptions) -> Model:
    from torch_backend.precision import open_model

    return open_model(source, options)


@core.hookimpl
def export(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    from torch_backend.export import export_weights

    return export_weights(source, target, options)


@core.hookimpl
def optimize(model: Model, target: Path, options: OptimizeOptions) -> Artifact:
    from torch_backend.optimize import optimize_model

    return optimize_model(model, target, options)


@core.hookimpl
def quantize(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    from torch_backend.quantize import quantize_model

    return quantize_model(model, target, options)


@core.hookimpl
def encode(model: Model, texts: Sequence[Any], options: EncodeOptions) -> Any:
    return core.encode_texts(model, texts, options)


@core.hookimpl
def save(model: Model, target: Path, options: SaveOptions) -> Path:
    return model.copy_weights(target)
