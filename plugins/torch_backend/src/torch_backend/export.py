"""Export: a checkpoint's weights as one safetensors file of a chosen precision."""

from __future__ import annotations

from pathlib import Path

import torch

import core
from core import Artifact, Checkpoint, ExportOptions, LoadOptions
from core.toolkit import artifact_name, check_exporter, check_names
from torch_backend.device import DTYPES
from torch_backend.files import write_module


def export_weights(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `model_<precision>.safetensors`, or `model.safetensors` where it does not exist."""
    check_names(options.backend_kwargs, (), "export of the torch backend")
    check_exporter("torch", options.exporter, ("direct",))
    name = artifact_name(options.file_name, _default_name(source, options.precision))
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        model_kwargs=options.model_kwargs,
        config_kwargs=options.config_kwargs,
    )
    with core.hooks("torch").load(source, load) as model:
        module = model.runtime.module.to(DTYPES[options.precision])
        write_module(module, target / name)
    return Artifact(
        root=target,
        file_name=name,
        precision=options.precision,
        config={"precision": options.precision},
        versions={"torch": torch.__version__},
    )


def _default_name(source: Checkpoint, precision: str) -> str:
    plain = source.architecture.file("model.safetensors")
    if precision == "fp32" and not source.has(plain):
        return plain
    return source.architecture.file(f"model_{precision}.safetensors")
