"""The ONNX Runtime backend's hooks. Runtimes are imported inside, so naming it stays cheap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import core
from onnx_backend.presets import CALIBRATED_CONFIGS as CALIBRATED_CONFIGS
from onnx_backend.presets import NEEDS as NEEDS
from onnx_backend.presets import OPTIMIZE_CONFIGS as OPTIMIZE_CONFIGS
from onnx_backend.presets import QUANTIZE_CONFIGS as QUANTIZE_CONFIGS

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
DEVICES = ("cpu", "cuda", "tensorrt", "dml", "coreml", "rocm", "migraphx", "openvino")
PRECISIONS = ("fp32", "fp16")
FILE_NAMES = ("model.onnx", "onnx/model.onnx")
FILES = {
    "*.onnx": ("{file}_data*", "{file}.data*"),
    "onnx/*.onnx": ("{file}_data*", "{file}.data*"),
}
MODEL_KWARGS = ("provider", "provider_options", "session_options", "share_weights")
EXPORTS_FROM = "torch"
KINDS = ("embedding", "reranker", "sparse", "multi_vector")
OUTPUTS = ("dense", "sparse", "multi_vector")
AUTO_EXPORT = True
ARTIFACT_FOLDER = "onnx"


@core.hookimpl
def load(source: Checkpoint, options: LoadOptions) -> Model:
    from onnx_backend.session import OnnxRuntime

    return core.build_model(source, options, OnnxRuntime.open)


@core.hookimpl
def export(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    from onnx_backend.export import export_model

    return export_model(source, target, options, EXPORTS_FROM)


@core.hookimpl
def optimize(model: Model, target: Path, options: OptimizeOptions) -> Artifact:
    from onnx_backend.optimize import optimize_model

    return optimize_model(model, target, options)


@core.hookimpl
def quantize(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    from onnx_backend.quantize import quantize_model

    return quantize_model(model, target, options)


@core.hookimpl
def encode(model: Model, texts: Sequence[Any], options: EncodeOptions) -> Any:
    return core.encode_texts(model, texts, options)


@core.hookimpl
def save(model: Model, target: Path, options: SaveOptions) -> Path:
    return model.copy_weights(target)
