"""The files of a loaded model at their places in a directory being saved."""

from __future__ import annotations

import shutil
from pathlib import Path

from core import EmbeddingModel
from core.artifacts.artifact import SIDECAR_SUFFIX
from onnx_backend.session import OnnxRuntime


def save_files(model: EmbeddingModel, target: Path) -> Path:
    """Put the loaded ONNX file, its external data and its sidecar where they lay."""
    runtime = model.runtime
    if isinstance(runtime, OnnxRuntime):
        names = list(runtime.files)
        sidecar = runtime.files[0] + SIDECAR_SUFFIX
        if model.source.has(sidecar):
            names.append(sidecar)
        for name in names:
            place = target / name
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.source.path(name), place)
    return target
