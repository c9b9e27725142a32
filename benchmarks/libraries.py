"""The systems of the comparison with other libraries, all of them with all-MiniLM-L6-v2."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import hub
from benchmarks.checkpoints import prepare_model
from benchmarks.model_files import WORK, exported
from benchmarks.systems import REFERENCE, System
from benchmarks.variants import variants
from scripts.peers import build

#: Of all variants, those that stand beside other libraries.
_OURS = (
    "core torch fp32", "core onnx fp32", "core onnx O3", "core onnx int8", "core onnx O2 int8",
    "core openvino int8 weights", "core torch int8", "core openvino fp32", "core openvino bf16",
)  # fmt: skip
_THEIRS = (
    REFERENCE, "sentence-transformers onnx", "sentence-transformers onnx O3",
    "sentence-transformers onnx int8", "sentence-transformers openvino",
)  # fmt: skip

Make = Callable[[str], System]


def all_systems(only: str) -> tuple[list[System], dict[str, str]]:
    """Every system whose name matches, and why others cannot be measured here.

    Environments are built and files made where they are missing.
    """
    model = prepare_model()
    systems, failures = [], {}
    for name, make in {**_variants(model), **_others(model)}.items():
        if re.search(only, name):
            try:
                systems.append(make(name))
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}"
    return systems, failures


def _variants(model: Path) -> dict[str, Make]:
    known = variants()

    def make(name: str) -> System:
        environment = known[name].recipe.environment
        if environment:
            build(environment)
        return known[name].prepare(model)

    return {name: make for name in (*_OURS, *_THEIRS) if name in known}


def _others(model: Path) -> dict[str, Make]:
    def fastembed(name: str) -> System:
        build(name)
        spec = {"kind": name, "path": str(model), "file_name": exported(model, "onnx")}
        return System(name, name, "fp32", spec, (name,))

    def embed_anything(share: float, file: Callable[[], str] | None = None) -> Make:
        def make(name: str) -> System:
            env = "embed-anything"
            build(env)
            spec = {
                "kind": env,
                "model_id": hub.MODEL_ID,
                "endpoint": hub.serve(model),
                "cache": str(WORK / "hub"),
            }
            if file is not None:
                spec["file_name"] = file()
            return System(name, env, "fp32", spec, (env,), share)

        return make

    return {
        "fastembed": fastembed,
        "embed-anything onnx": embed_anything(1.0, partial(exported, model, "onnx")),
        # Its default runtime needs a second for each text of a mixed batch, and reads 512 tokens.
        "embed-anything": embed_anything(0.06),
    }
