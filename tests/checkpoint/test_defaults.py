"""Which file is loaded when none is named: float32, and a guess only where it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import core
from core.checkpoint.resolve import resolve
from core.operations.inspection import inspect_model
from core.plugin.registry import registry
from tests.conftest import Exports

FILES = {"onnx": ("onnx/model.onnx",), "openvino": ("openvino/openvino_model.xml",)}
INT8 = {
    "onnx": "onnx/model_quint8_avx2.onnx",
    "openvino": "openvino/openvino_model_qint8_quantized.xml",
}
BACKENDS = tuple(FILES)


@pytest.fixture
def tiny(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(exports("bert-cls", "onnx", "openvino"), folder)
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    return folder


def rename(folder: Path, backend: str, *names: str) -> None:
    """Give the backend's file other names; what they promise is all that counts here."""
    original = folder / FILES[backend][0]
    for name in names:
        for suffix in {original.suffix, ".bin"} if backend == "openvino" else {original.suffix}:
            shutil.copyfile(original.with_suffix(suffix), (folder / name).with_suffix(suffix))
    for path in (original, original.with_suffix(".bin"), Path(f"{original}.json")):
        path.unlink(missing_ok=True)


def warned(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in message for message in caplog.messages)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lone_file_of_fewer_bits_is_not_loaded_where_one_can_be_exported(
    tiny: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    rename(tiny, backend, INT8[backend])
    with core.load(tiny, backend=backend) as model:
        assert model.file_name == FILES[backend][0]
    assert warned(caplog, "has no float32 file") == 1
    caplog.clear()
    with core.load(tiny, backend=backend) as model:
        assert model.file_name == FILES[backend][0]
    assert not caplog.messages
    with core.load(tiny, backend=backend, file_name=INT8[backend]) as model:
        assert model.file_name == INT8[backend]
    assert not caplog.messages


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("obstacle", ["no weights", "broken weights", "no torch", "export=False"])
def test_it_is_loaded_and_named_where_nothing_else_can_be_done(
    tiny: Path,
    backend: str,
    obstacle: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rename(tiny, backend, INT8[backend])
    export = None
    if obstacle == "no weights":
        (tiny / "model.safetensors").unlink()
    elif obstacle == "broken weights":
        (tiny / "model.safetensors").write_bytes(b"12345678")
    elif obstacle == "no torch":
        names = [name for name in registry.names() if name != "torch"]
        monkeypatch.setattr(registry, "names", lambda: names)
    else:
        export = False
    with core.load(tiny, backend=backend, export=export) as model:
        assert model.file_name == INT8[backend]
    says = rf"loading {INT8[backend]}, which is int8, so its embeddings differ"
    assert warned(caplog, says) == 1


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("onnx", "onnx/model_quantized.onnx"),
        ("onnx", "onnx/model_int8.onnx"),
        ("onnx", "onnx/model_uint8.onnx"),
        ("onnx", "onnx/model-q8.onnx"),
        ("onnx", "onnx/model_q4.onnx"),
        ("onnx", "onnx/model_q4f16.onnx"),
        ("onnx", "onnx/model_bnb4.onnx"),
        ("onnx", "onnx/model_fp16.onnx"),
        ("onnx", "onnx/model_O4.onnx"),
        ("onnx", "onnx/model_O3_quint8_avx2.onnx"),
        ("onnx", "model_int8.onnx"),
        ("openvino", "openvino/openvino_model_int8.xml"),
        ("openvino", "openvino/openvino_model_int4_weights.xml"),
        ("openvino", "openvino/openvino_model_fp16.xml"),
    ],
)
def test_names_that_tell_of_fewer_bits_are_no_default(tiny: Path, backend: str, name: str) -> None:
    rename(tiny, backend, name)
    (found,) = [a for a in inspect_model(resolve(tiny)).artifacts if a.backend == backend]
    assert (found.file, found.default) == (name, False)
    (tiny / "model.safetensors").unlink()
    (found,) = [a for a in inspect_model(resolve(tiny)).artifacts if a.backend == backend]
    assert (found.file, found.default) == (name, True)


def test_the_record_of_a_file_tells_more_than_its_name(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rename(tiny, "onnx", "onnx/mine.onnx")
    record = {"backend": "onnx", "precision": "int8"}
    (tiny / "onnx/mine.onnx.json").write_text(json.dumps(record))
    with core.load(tiny, backend="onnx") as model:
        assert model.file_name == "onnx/model.onnx"
    record["precision"] = "fp32"
    (tiny / "onnx/mine.onnx.json").write_text(json.dumps(record))
    caplog.clear()
    with core.load(tiny, backend="onnx") as model:
        assert model.file_name == "onnx/mine.onnx"
    assert not caplog.messages


def test_what_a_file_computes_in_is_told_where_nothing_else_does(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load(tiny, backend="onnx") as model:
        artifact = model.quantize(min_cosine=0.0, num_samples=8)
    artifact.path.rename(tiny / "onnx/mine.onnx")
    Path(f"{artifact.path}.json").unlink()
    (tiny / "onnx/model.onnx").unlink()
    caplog.clear()
    with core.load(tiny, backend="onnx") as model:
        assert (model.file_name, model.dtype) == ("onnx/mine.onnx", "int8")
    assert warned(caplog, "onnx/mine.onnx computes in int8") == 1


def test_a_full_precision_file_goes_before_one_of_fewer_bits(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rename(tiny, "onnx", "onnx/model_O2_quint8_avx2.onnx", "onnx/model_optimized.onnx")
    with core.load(tiny, backend="onnx") as model:
        assert model.file_name == "onnx/model_optimized.onnx"
    assert warned(caplog, "none of the name it looks for") == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_of_the_usual_name_is_no_guess(
    tiny: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    original = (tiny / FILES[backend][0]).read_bytes()
    (tiny / INT8[backend]).write_bytes(original)
    with core.load(tiny, backend=backend) as model:
        assert model.file_name == FILES[backend][0]
    assert not caplog.messages


def test_torch_weights_of_fewer_bits_alone_are_named(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load(tiny, backend="torch", device="cpu") as model:
        model.optimize("fp16")
    (tiny / "model.safetensors").unlink()
    caplog.clear()
    with core.load(tiny, backend="torch", device="cpu") as model:
        assert model.file_name == "model_fp16.safetensors"
    assert warned(caplog, "loading model_fp16.safetensors, which is fp16") == 1
