"""The reference's ways to a faster model, by this library's own Python names and command line.

`test_ways.py` has them by the reference's names. Each goes to a directory, and as a pull request to
the loopback Hub, where it is loaded before and after merging.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.cli import main
from tests.dropin.ways import LEVELS, PRESETS, REPO, STATIC_CONFIGS, TEXTS, cosines, merge
from tests.hub.loopback import LoopbackHub

pytestmark = pytest.mark.slow

#: Way: operation, backend, configuration, file it writes, least cosine to the float32 model.
WAYS: dict[str, tuple[str, str, Any, str, float]] = {
    **{level: ("optimize", "onnx", level, f"onnx/model_{level}.onnx", 0.999) for level in LEVELS},
    **{
        preset: ("quantize", "onnx", preset, f"onnx/model_{name}.onnx", 0.9)
        for preset, name in PRESETS.items()
    },
    **{
        f"static {name}": (
            "quantize",
            "openvino",
            config,
            "openvino/openvino_model_qint8_quantized.xml",
            0.8,
        )
        for name, config in STATIC_CONFIGS.items()
        if name != "object"  # by the reference's names, in test_ways.py
    },
}


def embed(name: str, backend: str, file: str, **arguments: Any) -> np.ndarray:
    with core.load(name, backend=backend, file_name=file, export=False, **arguments) as model:
        embedded: np.ndarray = model.encode(TEXTS)
    return embedded


@pytest.fixture(scope="module")
def expected(tiny: Path) -> np.ndarray:
    """Embeddings of the float32 model."""
    with core.load(tiny, backend="torch", device="cpu") as model:
        embedded: np.ndarray = model.encode(TEXTS)
    return embedded


@pytest.mark.parametrize("way", WAYS)
def test_by_python(
    repository: LoopbackHub, local: Path, expected: np.ndarray, tmp_path: Path, way: str
) -> None:
    operation, backend, config, file, least = WAYS[way]
    with core.load(local, backend=backend) as model:
        artifact = getattr(core, operation)(model, config, tmp_path / "made")
    assert artifact.path == tmp_path / "made" / file
    written = embed(str(tmp_path / "made"), backend, file)
    assert cosines(written, expected).min() > least

    with core.load(REPO, backend=backend) as model:
        pushed = getattr(core, operation)(model, config, push_to_hub=True, create_pr=True)
    assert pushed.url == f"{repository.url}/{REPO}/discussions/1"
    with pytest.raises(core.ArtifactNotFound, match=f"has no file '{re.escape(file)}'"):
        embed(REPO, backend, file)
    pulled = embed(REPO, backend, file, revision="refs/pr/1")
    assert cosines(pulled, written).min() > 0.999
    merge(repository, 1)
    np.testing.assert_array_equal(embed(REPO, backend, file), pulled)


@pytest.mark.parametrize("way", WAYS)
def test_by_command_line(
    repository: LoopbackHub,
    local: Path,
    expected: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    operation, backend, config, file, least = WAYS[way]
    options = ["--config", config] if isinstance(config, str) else []
    if isinstance(config, dict):
        options = ["--set", f"num_samples={config['num_samples']}"]
    command = [operation, "-b", backend, *options, "--json"]
    assert main([*command, str(local)]) == 0
    written = embed(str(local), backend, file)
    assert cosines(written, expected).min() > least

    assert main([*command, REPO, "--push-to-hub", REPO, "--create-pr"]) == 0
    reports = [
        json.loads(part + "}") for part in capsys.readouterr().out.split("\n}") if part.strip()
    ]
    assert reports[0]["file"] == str(local / file)
    assert reports[1]["url"] == f"{repository.url}/{REPO}/discussions/1"
    pulled = embed(REPO, backend, file, revision="refs/pr/1")
    assert cosines(pulled, written).min() > 0.999
    merge(repository, 1)
    np.testing.assert_array_equal(embed(REPO, backend, file), pulled)


@pytest.mark.parametrize("front", ["python", "command line"])
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_export_is_saved_and_pushed(
    plain: LoopbackHub,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    front: str,
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "exports"))
    file = "onnx/model.onnx" if backend == "onnx" else "openvino/openvino_model.xml"
    target = tmp_path / "made"
    if front == "python":
        core.export(REPO, target, backend=backend)
        core.export(REPO, backend=backend, push_to_hub=True, create_pr=True)
    else:
        assert main(["export", REPO, "-b", backend, "-t", str(target)]) == 0
        pushing = ["--push-to-hub", REPO, "--create-pr"]
        assert main(["export", REPO, "-b", backend, *pushing]) == 0
    written = embed(str(target), backend, file)
    np.testing.assert_allclose(written, expected, atol=1e-4)
    pulled = embed(REPO, backend, file, revision="refs/pr/1")
    merge(plain, 1)
    np.testing.assert_array_equal(embed(REPO, backend, file), pulled)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(
    local: Path, expected: np.ndarray, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    with core.load(local, backend="torch", device="cpu", model_kwargs={"dtype": dtype}) as model:
        assert model.dtype == dtype
        assert cosines(model.encode(TEXTS), expected).min() > 0.99
    level = {"float16": "fp16", "bfloat16": "bf16"}[dtype]
    assert main(["optimize", str(local), "-b", "torch", "--config", level, "--json"]) == 0
    assert f"model_{level}.safetensors" in capsys.readouterr().out
    halved = embed(str(local), "torch", f"model_{level}.safetensors", device="cpu")
    assert cosines(halved, expected).min() > 0.99


def test_options_of_loading(local: Path, expected: np.ndarray) -> None:
    """`provider`, `ov_config` and `file_name`, in `model_kwargs` as the reference has them."""
    onnx = {"provider": "CPUExecutionProvider", "file_name": "onnx/model.onnx"}
    openvino = {"ov_config": {"NUM_STREAMS": "1"}, "file_name": "openvino/openvino_model.xml"}
    for backend, kwargs in (("onnx", onnx), ("openvino", openvino)):
        with core.load(local, backend=backend, model_kwargs={**kwargs, "export": False}) as model:
            np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-4)
