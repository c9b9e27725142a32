"""Where artifacts go: beside a model, into a fresh directory, into the cache, once."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.cli import main
from core.errors import CoreError, VerificationError
from core.files.weights import read_weights, write_safetensors
from core.operations.inspection import inspect_model
from core.testing import tiny_model as write_tiny_model
from tests.checkpoint.dialects import build_dialect
from tests.checkpoint.saver import digest
from tests.conftest import ROOT, Exports, build_tiny_model, copy_model
from tests.tuning.toy_backend import toy_backend

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

TEXTS = ["one text", "another, longer text about vectors"]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return copy_model(tiny_model("bert-cls"), tmp_path / "model")


@pytest.fixture
def with_onnx(exports: Exports, tmp_path: Path) -> Path:
    """The same model with its ONNX file."""
    return copy_model(exports("bert-cls", "onnx"), tmp_path / "model")


def names(place: Path) -> set[str]:
    return {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}


def test_an_artifact_is_added_beside_the_model(folder: Path) -> None:
    before = names(folder)
    artifact = core.export(str(folder), backend="onnx")
    assert names(folder) - before == {"onnx/model.onnx", "onnx/model.onnx.json"}
    with core.load(str(folder), backend="onnx") as model:
        core.optimize(model, "O2")
    added = {"onnx/model.onnx", "onnx/model_O2.onnx"}
    assert names(folder) - before == added | {f"{name}.json" for name in added}
    assert artifact.path == folder / "onnx/model.onnx"


@pytest.mark.slow
def test_a_fresh_directory_loads_on_its_own(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "fresh"
    artifact = core.export(str(folder), target, backend="onnx")
    with core.load(str(folder), backend="onnx", export=True) as model:
        expected = model.encode(TEXTS)
    folder.rename(tmp_path / "gone")
    with artifact.load() as model:
        assert np.array_equal(model.encode(TEXTS), expected)
    assert "model.safetensors" not in names(target)
    # A second artifact joins it and changes nothing else.
    before = {n: (target / n).read_bytes() for n in names(target)}
    with core.load(str(target), backend="onnx") as model:
        core.optimize(model, "O2")
    assert {n: (target / n).read_bytes() for n in before} == before


def test_a_file_may_go_to_folders_below_one_another(folder: Path, tmp_path: Path) -> None:
    target, name = tmp_path / "fresh", "a/b/c.onnx"
    artifact = core.export(str(folder), target, backend="onnx", file_name=name)
    with artifact.load() as model, core.load(str(folder), backend="torch", device="cpu") as torch:
        assert np.allclose(model.encode(TEXTS), torch.encode(TEXTS), atol=1e-5)
    assert artifact.path == target / name


@pytest.mark.slow
def test_a_transformer_in_a_folder_is_completed_flat(tmp_path: Path) -> None:
    source = build_dialect("transformer-in-a-folder", tmp_path / "source")
    artifact = core.export(str(source), tmp_path / "fresh", backend="onnx")
    with artifact.load() as model, core.load(str(source), backend="torch", device="cpu") as torch:
        assert np.allclose(model.encode(TEXTS), torch.encode(TEXTS), atol=1e-5)
    assert not (tmp_path / "fresh/0_Transformer").exists()


@pytest.mark.slow
def test_an_artifact_that_fails_verification_changes_nothing(folder: Path) -> None:
    with core.load(str(folder), backend="torch", device="cpu") as model:
        core.optimize(model, "fp16")
    before = digest(folder)
    with pytest.raises(VerificationError, match="Nothing was published") as caught:
        core.export(str(folder), backend="onnx", min_cosine=1.0)
    assert "reaches 0.9" in str(caught.value), "rounded to 1.000000, it would say the contrary"
    assert digest(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime", ["onnx_backend.session.OnnxRuntime", "openvino_backend.session.OpenVINORuntime"]
)
def test_what_computes_many_texts_is_verified_too(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """Runtimes compile a model another time for batches beside others, with other kernels."""
    backend = runtime.partition("_")[0]
    module, _, name = runtime.rpartition(".")
    right = getattr(importlib.import_module(module), name).sentence_embeddings

    def wrong_beside_others(self: Any, batch: Any, *, workers: int = 1) -> Any:
        return right(self, batch, workers=1)[:, :: 1 if workers == 1 else -1]

    monkeypatch.setattr(f"{runtime}.preferred_workers", lambda self, batches: min(2, batches))
    monkeypatch.setattr(f"{runtime}.sentence_embeddings", wrong_beside_others)
    with pytest.raises(VerificationError, match="must agree with its source"):
        core.export(tiny_model("bert-mean"), tmp_path / "made", backend=backend)


@pytest.mark.slow
def test_layers_are_kept_for_what_computes_many_texts_too(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = "onnx_backend.session.OnnxRuntime"
    right = importlib.import_module("onnx_backend.session").OnnxRuntime.sentence_embeddings

    def wrong_beside_others(self: Any, batch: Any, *, workers: int = 1) -> Any:
        wrong = workers > 1 and self.file.is_quantized
        return right(self, batch, workers=1)[:, :: -1 if wrong else 1]

    monkeypatch.setattr(f"{runtime}.preferred_workers", lambda self, batches: min(2, batches))
    monkeypatch.setattr(f"{runtime}.sentence_embeddings", wrong_beside_others)
    with core.load(exports("bert-mean", "onnx"), backend="onnx") as model:
        texts = [f"{text} {number}" for number in range(16) for text in TEXTS]
        artifact = core.quantize(model, target=tmp_path, min_cosine=0.9, calibration=texts)
    assert len(artifact.config["kept_in_float"]) > 0
    assert artifact.verification.min_cosine >= 0.9


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_what_was_made_from_other_weights_than_lie_beside_it_is_told_of(
    exports: Exports,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    backend: str,
) -> None:
    """As after more training, or beside another model of the same shape."""
    folder = copy_model(exports("bert-cls", backend), tmp_path / "model")
    exported = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}[backend]

    def told(file_name: str) -> list[tuple[str, str]]:
        caplog.clear()
        core.load(folder, backend=backend, file_name=file_name).close()
        pattern = r": (\S+) was made from another (\S+) than"
        return [(found[1], found[2]) for found in re.finditer(pattern, caplog.text)]

    with core.load(folder, backend=backend) as model:
        int8 = model.quantize(num_samples=16).file_name
    assert [told(exported), told(int8)] == [[], []]
    weights = folder / "model.safetensors"
    trained = {name: value * np.float32(1.5) for name, value in read_weights(weights).items()}
    shutil.copyfile(weights, folder / "copy").replace(weights)
    os.utime(weights, (0, 0))  # copies may have any time
    assert told(exported) == []
    write_safetensors(weights, trained)
    of_weights = [(exported, "model.safetensors")]
    assert [told(exported), told(int8)] == [of_weights, of_weights]
    found = {a.file: a.made_from_other for a in inspect_model(resolve(folder)).artifacts}
    assert {found[exported], found[int8]} == {"model.safetensors"}
    assert main(["info", str(folder)]) == 0
    assert "made from another model.safetensors" in capsys.readouterr().out
    core.export(folder, backend=backend)
    assert told(exported) == []
    assert [made for made, _ in told(int8)] == [int8]
    with core.load(folder, backend=backend, file_name=exported) as model:
        model.quantize(num_samples=16)
    assert told(int8) == []
    core.load(folder, backend="torch").save(tmp_path / "saved")
    folder = tmp_path / "saved"
    assert [told(exported), told(int8)] == [[], []]


def test_saving_an_onnx_model_keeps_the_torch_weights(with_onnx: Path, tmp_path: Path) -> None:
    folder = with_onnx
    with core.load(str(folder), backend="onnx") as model:
        core.optimize(model, "O2")
    with core.load(str(folder), backend="onnx", file_name="model_O2.onnx") as model:
        expected = model.encode(TEXTS)
        model.save(tmp_path / "saved")
    saved = tmp_path / "saved"
    assert {"model.safetensors", "onnx/model.onnx", "onnx/model_O2.onnx"} <= names(saved)
    with core.load(str(saved), backend="torch", device="cpu") as model:
        assert np.allclose(model.encode(TEXTS), expected, atol=1e-3)
    with core.load(str(saved), backend="onnx", file_name="model_O2.onnx") as model:
        assert np.array_equal(model.encode(TEXTS), expected)


@pytest.mark.slow
def test_an_automatic_export_is_saved_with_the_model(folder: Path, tmp_path: Path) -> None:
    with core.load(str(folder), backend="onnx") as model:
        expected = model.encode(TEXTS)
        model.save(tmp_path / "saved")
    assert "onnx/model.onnx" in names(tmp_path / "saved")
    assert names(tmp_path / "saved") - names(folder) == {
        "onnx/model.onnx",
        "onnx/model.onnx.json",
        "README.md",
    }
    with core.load(str(tmp_path / "saved"), backend="onnx", export=False) as model:
        assert np.array_equal(model.encode(TEXTS), expected)


@pytest.mark.slow
def test_two_processes_exporting_one_model_export_it_once(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, core;"
        "model = core.load(sys.argv[1], backend='onnx');"
        "print(model.encode('one text')[:3].tolist())"
    )
    environment = {**os.environ, "CORE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [p.communicate() for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum("exported one" in errors for _, errors in outputs) == 1
    assert len(list((tmp_path / "cache").rglob("*.onnx"))) == 1


def test_a_directory_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CoreError, match=r"file.*is a file, not a directory"):
        core.export(str(folder), tmp_path / "file" / "inside", backend="onnx")


@pytest.mark.slow
def test_info_tells_precision_and_drift_of_each_file(with_onnx: Path) -> None:
    folder = with_onnx
    with core.load(str(folder), backend="onnx") as model:
        core.quantize(model, "avx2")
    with core.load(str(folder), backend="torch", device="cpu") as model:
        core.optimize(model, "fp16")
    found = {a.file: a for a in inspect_model(resolve(folder)).artifacts}
    assert found["onnx/model.onnx"].operation == "export"
    assert found["onnx/model_quint8_avx2.onnx"].operation == "quantize"
    assert found["model_fp16.safetensors"].precision == "fp16"
    drift = found["onnx/model_quint8_avx2.onnx"].verification
    assert drift is not None
    assert 0.9 < drift["min_cosine"] < drift["mean_cosine"] < 1
    assert found["model.safetensors"].verification is None


def test_info_of_dense_modules_reads_no_weights(tmp_path: Path) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    (folder / "2_Dense/pytorch_model.bin").write_bytes(b"not read")
    info = inspect_model(resolve(folder))
    assert info.modules == ["Transformer (bert)", "Pooling (mean)", "Dense (32 to 16, Tanh)"]
    assert info.dimension == 16


@pytest.mark.slow
def test_the_export_of_a_transformer_in_a_folder_follows_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    build_dialect("transformer-in-a-folder", folder)
    with core.load(str(folder), backend="onnx") as model:
        before = model.encode(["one text"])
    weights = folder / "0_Transformer" / "model.safetensors"
    tensors = {name: -2 * tensor for name, tensor in read_weights(weights).items()}
    write_safetensors(weights, tensors)
    with core.load(str(folder), backend="onnx") as model:
        assert not np.allclose(model.encode(["one text"]), before)


@pytest.mark.slow
def test_artifacts_of_an_automatic_export_go_beside_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two models under one relative name: each keeps its own.
    for side, dialect in (("a", "bert-cls"), ("b", "bert-mean")):
        (tmp_path / side).mkdir()
        shutil.copytree(build_tiny_model(dialect), tmp_path / side / "model")
        monkeypatch.chdir(tmp_path / side)
        with core.load("model", backend="onnx") as model:
            artifact = model.optimize("O1")
            assert artifact.path.resolve() == tmp_path / side / "model/onnx/model_O1.onnx"
            with artifact.load() as optimized:
                np.testing.assert_allclose(
                    optimized.encode(["one text"]), model.encode(["one text"]), atol=1e-5
                )


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "../outside.onnx", "x"])
def test_an_export_overwrites_no_file_of_its_source(folder: Path, name: str) -> None:
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    for backend in ("onnx", "openvino"):
        with pytest.raises(core.CoreError, match="file_name"):
            core.export(folder, backend=backend, file_name=name)
    with pytest.raises(core.CoreError, match=r"would overwrite model\.safetensors"):
        core.export(folder, backend="torch", precision="fp16", file_name="model.safetensors")
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


@pytest.mark.slow
def test_a_forced_export_does_not_say_that_there_was_no_file(
    with_onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    core.load(with_onnx, backend="onnx", export=True).close()
    assert "is loaded with export=True on the onnx backend" in caplog.text
    assert "has no file" not in caplog.text


@pytest.mark.slow
def test_the_sidecar_names_every_file_the_weights_were_in(folder: Path) -> None:
    core.export(folder, backend="onnx", external_data=True)
    with core.load(folder, backend="onnx") as model:
        artifact = model.optimize("O1")
    record = json.loads((folder / (artifact.file_name + ".json")).read_text())
    assert set(record["source"]["sha256"]) == {"onnx/model.onnx", "onnx/model.onnx_data"}


def test_a_link_whose_file_is_gone_is_named(with_onnx: Path) -> None:
    folder = with_onnx
    (folder / "onnx/model.onnx").rename(folder / "onnx/gone")
    (folder / "onnx/model.onnx").symlink_to(folder / "onnx/lost")
    with pytest.raises(core.ModelFormatError, match=r"is a link to .*lost, which is gone"):
        core.load(folder, backend="onnx")


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Content of every file, and the time of every directory: a passing file changes that."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_no_operation_writes_beside_the_files_it_reads(
    backend: str, exports: Exports, tmp_path: Path
) -> None:
    folder = copy_model(exports("bert-mean", "onnx", "openvino"), tmp_path / "model")
    (folder / "onnx" / "model-inferred.onnx").write_text("the user's own")
    before = state(folder)
    with core.load(folder, backend=backend, device="cpu") as model:
        if backend == "torch":
            model.quantize(target=tmp_path / "int8", num_samples=8)
        else:
            core.export(folder, tmp_path / "exported", backend=backend)
            model.optimize(target=tmp_path / "optimized")
            model.quantize(target=tmp_path / "int8", num_samples=8)
            model.quantize(target=tmp_path / "static", calibration=TEXTS * 8)
            model.quantize("fp16", tmp_path / "fp16") if backend == "onnx" else None
        model.save(tmp_path / "saved")
    assert state(folder) == before


@pytest.mark.slow
def test_external_data_is_quantized_without_a_file_beside_it(
    exports: Exports, tmp_path: Path
) -> None:
    import onnx

    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    graph = onnx.load(str(folder / "onnx" / "model.onnx"))
    (folder / "onnx" / "model.onnx").unlink()
    onnx.save(
        graph, str(folder / "onnx" / "model.onnx"),
        save_as_external_data=True, location="model.onnx_data", size_threshold=0,
    )  # fmt: skip
    before = state(folder)
    with core.load(folder, backend="onnx") as model:
        artifact = model.quantize(target=tmp_path / "int8", num_samples=8)
    assert artifact.verification is not None
    assert state(folder) == before


def test_what_an_artifact_loads_along_goes_with_it_to_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @core.hookimpl
    def optimize(
        model: core.EmbeddingModel, target: Path, options: core.OptimizeOptions
    ) -> core.Artifact:
        name = "toy/model_linked.safetensors"
        (target / "toy").mkdir(exist_ok=True)
        (target / name).write_bytes(model.source.path("model.safetensors").read_bytes())
        return core.Artifact(root=target, file_name=name, refers_to=("model.safetensors",))

    monkeypatch.setattr("tests.tuning.toy_backend.optimize", optimize)
    source = write_tiny_model(tmp_path / "model")
    with toy_backend(["linked"]), core.load(source, backend="toy") as model:
        beside = model.optimize("linked")
        elsewhere = model.optimize("linked", tmp_path / "out")
    assert beside.all_files == ("toy/model_linked.safetensors",)
    assert elsewhere.all_files == ("toy/model_linked.safetensors", "model.safetensors")
    weights = (tmp_path / "out/model.safetensors").read_bytes()
    assert weights == (source / "model.safetensors").read_bytes()
    sidecar = json.loads((tmp_path / "out/toy/model_linked.safetensors.json").read_text())
    assert sidecar["files"] == list(elsewhere.all_files)


def test_verification_pads_on_both_sides_and_computes_little_padding(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core.load(exports("t5", "onnx"), backend="onnx", device="cpu") as model:
        masks: list[Any] = []
        compute = type(model.runtime).sentence_embeddings

        def watch(runtime: Any, batch: Any, **given: Any) -> Any:
            if runtime is model.runtime:
                masks.append(batch.attention_mask)
            return compute(runtime, batch, **given)

        monkeypatch.setattr(type(model.runtime), "sentence_embeddings", watch)
        model.quantize("avx2", tmp_path, min_cosine=-1)
    longest = max(mask.shape[1] for mask in masks)
    left = [mask for mask in masks if not mask[:, 0].all()]
    assert longest in {mask.shape[1] for mask in left}
    assert longest in {mask.shape[1] for mask in masks if mask[:, 0].all()}
    assert sum(mask.sum() for mask in masks) > 0.6 * sum(mask.size for mask in masks)
