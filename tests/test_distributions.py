"""The wheels in fresh environments."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import EmbeddingModel
from tests.conftest import Exports, copy_model, make_environment, pip_for

pytestmark = [pytest.mark.slow, pytest.mark.network]

TEXTS = ["one text", "another one, a little longer", "", "the third " * 120]

#: What a machine that serves does, with what `pip install core[BACKEND]` brought and no more.
SERVE = """
import importlib.util, json, sys
from pathlib import Path

import core

model_folder, small_folder, backend, target, steps, texts = sys.argv[1:]
present = [n for n in ("torch", "transformers", "sklearn") if importlib.util.find_spec(n)]
written = {}
with core.load(small_folder, backend=backend, export=False) as small:
    for operation, config in json.loads(steps):
        artifact = getattr(small, operation)(config, target + "/made")
        written[f"{operation} {config}"] = [
            artifact.file_name, artifact.verification.mean_cosine
        ]
model = core.load(model_folder, backend=backend, export=False)
model.save(target + "/saved")
saved = core.load(target + "/saved", backend=backend, export=False)
imported = sorted({"torch", "transformers", "sklearn"} & set(sys.modules))
print(json.dumps({
    "present": present,
    "imported": imported,
    "written": written,
    "embeddings": model.encode(json.loads(texts)).tolist(),
    "saved": saved.encode(json.loads(texts)).tolist(),
}))
"""


def test_wheels_hold_types_licence_and_templates(wheels: Path) -> None:
    (core_wheel,) = wheels.glob("core-0*.whl")
    names = zipfile.ZipFile(core_wheel).namelist()
    assert "core/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "plugins", "benchmarks"))]


def test_a_bare_core_is_light_and_tells_how_to_get_a_backend(wheels: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "bare", "core", wheels=wheels)
    listing = pip_for(python, "list", "--format=freeze").lower()
    assert "core==" in listing
    for heavy in ("torch", "transformers", "onnx", "openvino"):
        assert heavy not in listing

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(python.parent / "core"), *arguments],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, text = run("backends")
    assert code == 0
    assert "pip install core[torch]" in text
    code, text = run("encode", "some-model", "text")
    assert code == 1
    assert "No backend is installed" in text
    assert "pip install core[onnx]" in text
    code, text = run("encode", "some-model", "text", "--backend", "openvino")
    assert code == 1
    assert "`pip install core[openvino]`" in text


@pytest.mark.parametrize(
    ("backend", "most_megabytes", "steps"),
    [
        (
            "onnx",
            260,
            [
                *[("optimize", level) for level in ("O1", "O2", "O3")],
                *[("quantize", preset) for preset in ("arm64", "avx2", "avx512", "avx512_vnni")],
            ],
        ),
        ("openvino", 340, [("optimize", "fp16"), ("optimize", "fused")]),
    ],
)
def test_a_backend_from_the_wheels_serves_without_torch(
    backend: str,
    most_megabytes: int,
    steps: list[tuple[str, str]],
    wheels: Path,
    exports: Exports,
    minilm_torch: EmbeddingModel,
    tmp_path: Path,
) -> None:
    model = copy_model(exports("minilm", backend), tmp_path / "all-MiniLM-L6-v2")
    small = copy_model(exports("bert-mean", backend), tmp_path / "small")
    python = make_environment(tmp_path / "environment", f"core[{backend}]", wheels=wheels)
    folders = [str(model), str(small), backend, str(tmp_path)]
    arguments = [*folders, json.dumps(steps), json.dumps(TEXTS)]
    done = subprocess.run(
        [str(python), "-c", SERVE, *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["present"] == found["imported"] == []
    assert len(found["written"]) == len(steps)
    for step, (file_name, cosine) in found["written"].items():
        assert (tmp_path / "made" / file_name).is_file(), step
        assert cosine >= (0.98 if step.startswith("quantize") else 0.9999), step
    expected = minilm_torch.encode(TEXTS)
    for name in ("embeddings", "saved"):
        assert (np.sum(np.array(found[name]) * expected, axis=1) > 0.99999).all(), name
    assert installed_megabytes(python) < most_megabytes
    (small / "model.safetensors").unlink()
    check_tunes(python, small, tmp_path)


def check_tunes(python: Path, model: Path, folder: Path) -> None:
    """An environment with one backend and no torch chooses among that backend's variants."""
    texts = folder / "texts.txt"
    texts.write_text("\n".join(f"text {i} of {i * i % 7}" for i in range(60)), "utf-8")
    environment = {**os.environ, "CORE_CACHE": str(folder / "cache")}
    command = [str(python), "-m", "core", "tune", str(model), "--texts", str(texts), "--json"]
    done = subprocess.run(
        [*command, "--minutes", "0.1"],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {variant["backend"] for variant in report["variants"]} == {report["best"]["backend"]}
    assert len(report["variants"]) > 2
    assert report["best"]["recall_at_10"] >= 0.99


def installed_megabytes(python: Path) -> float:
    """What an environment takes on the disk, without pip and setuptools, in 10^6 bytes.

    With the compiled files that pip would have written: 1.4 times the size of their sources.
    """
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    return (
        sum(
            file.stat().st_size * (2.4 if file.suffix == ".py" else 1)
            for file in packages.rglob("*")
            if file.is_file()
            and file.suffix != ".pyc"
            and not file.relative_to(packages).parts[0].startswith(tools)
        )
        / 1e6
    )


@pytest.mark.parametrize(
    "requirements",
    [
        (
            "core[torch,onnx,openvino,quantize]",
            "torch==2.13.0", "transformers==5.23.0", "huggingface_hub==2.4.0",
        ),
        ("core[onnx-gpu]",),
    ],
)  # fmt: skip
def test_extras_resolve_beside_the_newest_transformers(
    requirements: tuple[str, ...], wheels: Path, tmp_path: Path
) -> None:
    python = make_environment(tmp_path / "environment", wheels=wheels)
    output = pip_for(python, "install", "--dry-run", "--find-links", str(wheels), *requirements)
    plan = output.lower().replace("_", "-").split("would install", 1)[1]
    for requirement in requirements:
        assert requirement.replace("==", "-").partition("[")[0].replace("_", "-") in plan
    assert ("onnxruntime-gpu-" in plan) == ("core[onnx-gpu]" in requirements)
