"""Export: a checkpoint's weights as one safetensors file of a chosen precision."""

from __future__ import annotations

from pathlib import Path

import torch

import core
from core import Artifact, Checkpoint, ExportOptions, LoadOptions
from core.errors import OptionError
from core.options import check_names
from torch_backend.files import write_module

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def export_weights(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `model_<precision>.safetensors`, or `model.safetensors` where there is none."""
    check_names(options.backend_kwargs, (), "export of the torch backend")
    if options.exporter != "direct":
        raise OptionError(
            f"The torch backend has one exporter, 'direct', not {options.exporter!r}."
        )
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        model_kwargs=options.model_kwargs,
        config_kwargs=options.config_kwargs,
    )
    with core.hooks("torch").load(source, load) as model:
        name = options.file_name or _default_name(source, options.precision)
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
