"""Every variant of a model that is compared: ours, and those of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model_files import PATIENCE, Recipe, make
from benchmarks.systems import System
from core.machine.processor import processor_flags
from onnx_backend.presets import choose_preset

ONNX_LEVELS = ("O1", "O2", "O3", "O4")


@dataclass(frozen=True)
class Variant:
    """A file of a model and what its backend is told when it loads it.

    Attributes:
        precision: What it computes in: "fp32", "fp16", "bf16" or "int8".
        needs: What a user installs for it.
        arguments: `model_kwargs` of the load.
    """

    name: str
    precision: str
    recipe: Recipe
    needs: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return not self.recipe.environment

    def prepare(self, model: Path, patience: float = PATIENCE) -> System:
        """The system that loads this variant of the model in a folder.

        Raises:
            FileFailedError: Its file could not be made.
        """
        folder, file_name = make(model, self.recipe, patience)
        backend = self.recipe.backend
        spec: dict[str, Any] = {
            "kind": "core" if self.ours else "sentence-transformers",
            "path": str(folder),
            "backend": backend,
            "file_name": file_name,
            "device": "CPU" if backend == "openvino" else "cpu",
            "model_kwargs": dict(self.arguments),
        }
        if not self.ours:
            # It finds its file by the name alone, and weights for torch without one.
            spec |= {"file_name": Path(file_name).name if backend != "torch" else ""}
        return System(self.name, self.recipe.environment, self.precision, spec, self.needs)


def rounds_to_bfloat16() -> bool:
    """Whether OpenVINO, left alone, computes float32 models in bfloat16 here."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16"})


def variants() -> dict[str, Variant]:
    """Those of this processor by name: ours first, then those of sentence-transformers."""
    found = [*_ours(), *_theirs()]
    return {variant.name: variant for variant in found}


def _ours() -> list[Variant]:
    def own(label: str, precision: str, backend: str, *steps: str, **arguments: Any) -> Variant:
        recipe = Recipe(backend, steps)
        return Variant(f"core {label}", precision, recipe, (f"core[{backend}]",), arguments)

    bfloat16 = {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}}
    return [
        own("torch fp32", "fp32", "torch"),
        own("torch fp16", "fp16", "torch", dtype="float16"),
        own("torch bf16", "bf16", "torch", dtype="bfloat16"),
        own("torch int8", "int8", "torch", "quantize int8"),
        own("onnx fp32", "fp32", "onnx"),
        *(own(f"onnx {level}", "fp32", "onnx", f"optimize {level}") for level in ONNX_LEVELS[:-1]),
        own("onnx O4", "fp16", "onnx", "optimize O4"),
        own("onnx int8", "int8", "onnx", "quantize auto"),
        # Faster on processors without AVX-512, slower with it.
        own("onnx O2 int8", "int8", "onnx", "optimize O2", "quantize auto"),
        own("onnx static int8", "int8", "onnx", "quantize static"),
        own("openvino fp32", "fp32", "openvino"),
        *([own("openvino bf16", "bf16", "openvino", **bfloat16)] if rounds_to_bfloat16() else []),
        own("openvino int8", "int8", "openvino", "quantize int8"),
        own("openvino int8 weights", "int8", "openvino", "quantize int8-weights"),
        own("openvino int4 weights", "int4", "openvino", "quantize int4-weights"),
    ]


def _theirs() -> list[Variant]:
    def peer(
        label: str, precision: str, environment: str, backend: str, *steps: str, **arguments: Any
    ) -> Variant:
        recipe = Recipe(backend, steps, environment)
        extra = "" if backend == "torch" else f"[{backend}]"
        needs = (f"sentence-transformers{extra}",)
        return Variant(f"sentence-transformers {label}", precision, recipe, needs, arguments)

    torch, onnx, openvino = "st-6.2", "st-5.7", "st-6.2-openvino"
    # The preset for this processor, as its documentation advises.
    int8 = f"quantize {choose_preset()}"
    return [
        peer("torch", "fp32", torch, "torch"),
        peer("torch fp16", "fp16", torch, "torch", torch_dtype="float16"),
        peer("torch bf16", "bf16", torch, "torch", torch_dtype="bfloat16"),
        peer("onnx", "fp32", onnx, "onnx"),
        *(
            peer(f"onnx {level}", "fp32", onnx, "onnx", f"optimize {level}")
            for level in ONNX_LEVELS[:-1]
        ),
        peer("onnx O4", "fp16", onnx, "onnx", "optimize O4"),
        peer("onnx int8", "int8", onnx, "onnx", int8),
        peer("openvino", "bf16" if rounds_to_bfloat16() else "fp32", openvino, "openvino"),
        peer("openvino static int8", "int8", openvino, "openvino", "quantize static"),
    ]
