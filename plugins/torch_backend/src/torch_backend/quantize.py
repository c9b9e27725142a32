"""Quantize: dynamic int8 for CPUs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import Artifact, Model, QuantizeOptions
from core.errors import OptionError, UnsupportedOperation, VerificationError
from core.toolkit import (
    WeightRounder,
    announce,
    calibration_batches,
    check_names,
    choose_varied_samples,
    has_floor,
    keep_sensitive_layers,
)
from torch_backend.calibration import observe
from torch_backend.files import write_module
from torch_backend.kernels.int8 import (
    SCHEME,
    adds_exactly,
    check_supported,
    find_linears,
    metadata,
    quantize_linears,
)
from torch_backend.presets import QUANTIZE_CONFIGS
from torch_backend.session import TorchRuntime, module_of

#: Calibration texts to use by default.
_SAMPLES = 200


def quantize_model(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    """Write `model_qint8.safetensors`: every linear layer's weights in int8."""
    if options.config is not None and options.config not in (*QUANTIZE_CONFIGS, SCHEME):
        raise OptionError(
            "The torch backend quantizes with 'int8' (dynamic, on the CPU), "
            f"not {options.config!r}."
        )
    check_names(options.backend_kwargs, (), "quantize of the torch backend")
    check_supported()
    runtime = module_of(model, "quantize")
    if runtime.dtype == "int8":
        raise UnsupportedOperation(f"{model.file_name} is quantized already.")
    if runtime.compile_options is not None:
        raise UnsupportedOperation(f"{model.file_name} is compiled; quantize its weights.")
    layers = find_linears(runtime.module)
    if not layers:
        raise UnsupportedOperation(f"{model!r} has no linear layers to quantize.")
    texts = choose_varied_samples(options.calibration, options.num_samples or _SAMPLES)
    announce(f"finding activation ranges in {len(texts)} texts")
    batches = calibration_batches(model, texts)
    largest, moments = observe(runtime, layers, batches)
    _check_finite(layers, largest)
    rounder = WeightRounder(moments, adds_in_16_bits=not adds_exactly())

    def make(kept: Collection[str]) -> torch.nn.Module:
        module = copy.deepcopy(runtime.module).cpu().float()
        quantize_linears(module, largest, rounder, kept)
        return module

    @contextmanager
    def open_variant(kept: frozenset[str]) -> Iterator[TorchRuntime]:
        device = torch.device("cpu")
        made = TorchRuntime(runtime.architecture, make(kept), device, dtype="int8")
        with closing(made):
            yield made

    kept: tuple[str, ...] = ()
    floor: dict[str, Any] = {}
    if options.min_cosine is not None and has_floor(model, options.min_cosine):
        found = keep_sensitive_layers(
            model, [(name,) for name in layers], open_variant, batches, options.min_cosine
        )
        kept, floor = found.layers, found.as_json()
    suffix = options.file_suffix or "qint8"
    name = model.source.architecture.file(f"model_{suffix}.safetensors")
    write_module(make(kept), target / name, metadata())
    return Artifact(
        root=target,
        file_name=name,
        precision="int8",
        config={
            "scheme": SCHEME,
            "smoothed": len(largest),
            "texts": len(texts),
            "own_texts": options.calibration is None,
            **floor,
        },
        versions={"torch": torch.__version__},
    )


def _check_finite(
    layers: Mapping[str, torch.nn.Linear], largest: Mapping[str, NDArray[np.float32]]
) -> None:
    """Refuse what no integers stand for."""
    for name, layer in layers.items():
        inputs = largest.get(name)
        if not layer.weight.isfinite().all() or not (inputs is None or np.isfinite(inputs).all()):
            raise VerificationError(
                f"The source itself has weights of {name!r}, or inputs to it, that are not finite "
                "numbers: no integers stand for these, and nothing was published. Look for NaN, "
                "infinity or very large values in its weights."
            )
