"""Quantize: dynamic int8 for CPUs."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from core import Artifact, Model, QuantizeOptions
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import check_names
from torch_backend.files import write_module
from torch_backend.kernels.int8 import SCHEME, check_supported, metadata, quantize_linears
from torch_backend.presets import QUANTIZE_CONFIGS
from torch_backend.session import TorchRuntime


def quantize_model(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    """Write `model_qint8.safetensors`: every linear layer's weights in int8."""
    if options.config is not None and options.config not in (*QUANTIZE_CONFIGS, SCHEME):
        raise OptionError(
            "The torch backend quantizes with 'int8' (dynamic, on the CPU), "
            f"not {options.config!r}."
        )
    check_names(options.backend_kwargs, (), "quantize of the torch backend")
    if options.calibration is not None:
        raise OptionError(
            "The torch backend quantizes dynamically and takes no calibration texts; the onnx and "
            "openvino backends quantize statically."
        )
    check_supported()
    runtime = model.runtime
    assert isinstance(runtime, TorchRuntime)
    if runtime.dtype == "int8":
        raise UnsupportedOperation(f"{model.file_name} is quantized already.")
    module = copy.deepcopy(runtime.module).cpu().float()
    if not quantize_linears(module):
        raise UnsupportedOperation(f"{model!r} has no linear layers to quantize.")
    suffix = options.file_suffix or "qint8"
    name = model.source.architecture.file(f"model_{suffix}.safetensors")
    write_module(module, target / name, metadata())
    return Artifact(
        root=target,
        file_name=name,
        precision="int8",
        config={"scheme": SCHEME},
        versions={"torch": torch.__version__},
    )
