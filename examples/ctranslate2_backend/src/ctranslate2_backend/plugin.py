"""The hooks, in a plain module: a backend on core's shared engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import core

if TYPE_CHECKING:
    from core import (
        Artifact,
        Checkpoint,
        EncodeOptions,
        ExportOptions,
        LoadOptions,
        Model,
        SaveOptions,
    )

SPEC_VERSION = 1
DEVICES = ("cpu", "cuda")
PRECISIONS = ("fp32", "fp16", "int8")
FILE_NAMES = ("ctranslate2/model.bin",)
FILE_PATTERNS = ("ctranslate2-*/model.bin",)
MODEL_KWARGS = ("compute_type", "inter_threads", "intra_threads")
EXPORTS_FROM = "torch"
AUTO_EXPORT = True
ARTIFACT_FOLDER = "ctranslate2"


@core.hookimpl
def load(source: Checkpoint, options: LoadOptions) -> Model:
    from ctranslate2_backend.session import EncoderRuntime

    return core.build_model(source, options, EncoderRuntime.open)


@core.hookimpl
def encode(model: Model, texts: Sequence[str], options: EncodeOptions) -> Any:
    return core.encode_texts(model, texts, options)


@core.hookimpl
def export(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    from ctranslate2_backend.export import convert

    return convert(source, target, options)


@core.hookimpl
def save(model: Model, target: Path, options: SaveOptions) -> Path:
    from ctranslate2_backend.session import save_files

    return save_files(model, target)
