"""Directories that change while a model is in use: what was loaded stays, or an error says so."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import core
from core.errors import ModelError
from core.sentence_transformers import SentenceTransformer
from tests.conftest import Exports

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

BACKENDS = ("torch", "onnx", "openvino")
TEXTS = [f"text number {i} of several, with {'more ' * (i % 5)}words" for i in range(24)]


@pytest.fixture
def versions(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models of one shape, `v1` and `v2`, and a copy of `v1` in use.

    Two threads: on one alone, many texts need no session beside that for one text.
    """
    monkeypatch.setenv("CORE_NUM_THREADS", "2")
    place = tmp_path.resolve() / "models"
    shutil.copytree(exports("bert-cls", *BACKENDS), place / "v1")
    shutil.copytree(exports("bert-mean", *BACKENDS), place / "v2")
    shutil.copytree(place / "v1", place / "used")
    return place


@pytest.fixture
def back() -> Iterator[None]:
    """The working directory is as before afterwards."""
    before = Path.cwd()
    yield
    os.chdir(before)


def load(folder: Path | str, backend: str, **arguments: Any) -> core.EmbeddingModel:
    return core.load(folder, backend=backend, device="cpu", **arguments)


def many(model: core.EmbeddingModel) -> Any:
    """Several batches at once: with onnx and openvino in what is opened or compiled just then."""
    return model.encode(TEXTS, batch_size=2, workers=2)


def replace(versions: Path) -> None:
    shutil.rmtree(versions / "used")
    (versions / "v2").rename(versions / "used")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_whose_directory_was_replaced_goes_on(versions: Path, backend: str) -> None:
    with load(versions / "v1", backend) as model:
        expected = many(model)
    with load(versions / "used", backend) as model:
        one = model.encode(TEXTS[0])
        replace(versions)
        np.testing.assert_allclose(many(model), expected, atol=1e-5)
        np.testing.assert_allclose(model.encode(TEXTS[0]), one, atol=1e-6)
        # What is read from the directory now would be of another model.
        with pytest.raises(ModelError, match=r"has changed or is gone.*Load the model again"):
            model.save(versions / "saved")
        assert not (versions / "saved").exists()
    with load(versions / "used", backend) as other:
        assert np.abs(many(other) - expected).max() > 0.01


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_identity_is_that_of_the_files_that_were_loaded(versions: Path, backend: str) -> None:
    with load(versions / "used", backend) as first, load(versions / "used", backend) as second:
        before = first.identity
        replace(versions)
        assert second.identity == before
    with load(versions / "used", backend) as other:
        assert other.identity != before


def with_external_data(folder: Path) -> None:
    file = folder / "onnx/model.onnx"
    model = onnx.load(file)
    file.unlink()
    onnx.save(model, file, save_as_external_data=True, location="model.onnx_data")


def test_external_data_is_never_that_of_another_model(versions: Path) -> None:
    for name in ("used", "v2"):
        with_external_data(versions / name)
    with load(versions / "used", "onnx") as model:
        model.encode("one")
        for name in ("model.onnx", "model.onnx_data"):  # the data alone
            (versions / "v2/onnx" / name).replace(versions / "used/onnx" / name)
            with pytest.raises(ModelError, match=r"has changed or is gone.*Load the model again"):
                many(model)


def test_another_file_with_the_same_size_and_time_is_noticed(versions: Path) -> None:
    """Images and package stores give all files one time."""
    for path in versions.glob("*/onnx/model.onnx"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    with load(versions / "used", "onnx") as model:
        shutil.copy2(versions / "v2/onnx/model.onnx", versions / "new")
        (versions / "new").replace(versions / "used/onnx/model.onnx")
        with pytest.raises(ModelError, match=r"has changed or is gone"):
            model.save(versions / "saved")


@pytest.mark.parametrize(
    ("backend", "file"), [("onnx", "onnx/model.onnx"), ("openvino", "openvino/openvino_model.bin")]
)
def test_a_file_that_was_written_over_is_noticed(versions: Path, backend: str, file: str) -> None:
    with load(versions / "used", backend) as model:
        model.encode("one")
        shutil.copyfile(versions / "v2" / file, versions / "used" / file)
        with pytest.raises(ModelError, match=r"has changed or is gone.*Load the model again"):
            many(model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_link_that_is_turned_to_another_version_changes_no_loaded_model(
    versions: Path, backend: str
) -> None:
    link = versions / "current"
    link.symlink_to("v1")
    with load(link, backend) as model:
        one = model.encode(TEXTS[0])
        link.unlink()
        link.symlink_to("v2")
        again = pickle.loads(pickle.dumps(model))
        model.save(versions / "saved")
        for other in (model, again, load(versions / "saved", backend)):
            np.testing.assert_allclose(many(other)[0], one, atol=1e-5)
    assert np.abs(load(link, backend).encode(TEXTS[0]) - one).max() > 0.01


@pytest.mark.usefixtures("back")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_relative_path_holds_from_any_working_directory(versions: Path, backend: str) -> None:
    os.chdir(versions)
    model = load("used", backend)
    os.chdir("/")
    expected = many(model)
    np.testing.assert_allclose(many(pickle.loads(pickle.dumps(model))), expected, atol=1e-6)
    artifact = core.optimize(model, "O1" if backend == "onnx" else "fp16")
    assert artifact.path.is_relative_to(versions / "used")
    if backend == "onnx":  # a process for each takes long
        with core.ProcessPool(model, processes=1) as pool:
            np.testing.assert_allclose(pool.encode(TEXTS), expected, atol=1e-5)


@pytest.mark.usefixtures("back")
def test_the_drop_in_loads_again_from_any_working_directory(versions: Path) -> None:
    os.chdir(versions)
    model = SentenceTransformer("used", backend="torch", device="cpu")
    os.chdir("/")
    assert str(model.half().dtype) == "torch.float16"
    assert model.tokenizer.model_max_length == model.max_seq_length


@pytest.mark.usefixtures("back")
def test_options_that_name_a_file_hold_from_any_working_directory(versions: Path) -> None:
    os.chdir(versions)
    Path("settings.json").write_text(json.dumps({"NUM_STREAMS": 1}))
    for name in ("settings.json", Path("settings.json")):
        model = load("used", "openvino", model_kwargs={"ov_config": name})
        copy = pickle.dumps(model)
        os.chdir("/")
        assert pickle.loads(copy).runtime.settings["NUM_STREAMS"] == 1
        os.chdir(versions)


@pytest.mark.usefixtures("back")
def test_an_artifact_in_a_relative_directory_loads_from_any_other(versions: Path) -> None:
    os.chdir(versions)
    with load("used", "torch") as model:
        artifact = model.quantize(target="small", num_samples=8)
    os.chdir("/")
    with artifact.load(device="cpu") as model:
        assert model.dtype == "int8"


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_process_notices_that_the_directory_was_replaced(
    versions: Path, backend: str
) -> None:
    with load(versions / "used", backend) as model:
        copy = pickle.dumps(model)
        replace(versions)
        with pytest.raises(ModelError, match=r"has changed or is gone.*Load the model again"):
            pickle.loads(copy)
        if backend == "onnx":
            with pytest.raises(ModelError, match=r"has changed or is gone.*Load the model again"):
                core.ProcessPool(model, processes=1)


def test_a_model_that_was_exported_to_the_cache_is_loaded_from_there_again(
    versions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    shutil.rmtree(versions / "used/onnx")
    with load(versions / "used", "onnx") as model:
        expected = many(model)
        shutil.copytree(versions / "v2/onnx", versions / "used/onnx")
        np.testing.assert_array_equal(many(pickle.loads(pickle.dumps(model))), expected)
    # The weights it was made from count as well, although only the export is read.
    shutil.rmtree(versions / "used/onnx")
    with load(versions / "used", "onnx") as model:
        copy = pickle.dumps(model)
    shutil.copyfile(versions / "v2/model.safetensors", versions / "used/model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors has changed"):
        pickle.loads(copy)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_core_itself_writes_into_the_directory_is_no_change(
    versions: Path, backend: str
) -> None:
    with load(versions / "used", backend) as model:
        model.encode("one")
        model.save(versions / "used")
        for _ in range(2):
            core.optimize(model, "O1" if backend == "onnx" else "fp16")
        expected = many(model)
        model.save(versions / "saved")
        np.testing.assert_allclose(many(pickle.loads(pickle.dumps(model))), expected, atol=1e-6)


def test_saving_a_model_with_external_data_to_its_own_directory_is_no_change(
    versions: Path,
) -> None:
    with_external_data(versions / "used")
    with load(versions / "used", "onnx") as model:
        one = model.encode(TEXTS[0])
        model.save(versions / "used")
        np.testing.assert_allclose(many(model)[0], one, atol=1e-5)


def test_a_closed_model_holds_no_file(versions: Path) -> None:
    def held() -> list[str]:
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            target = descriptor.readlink() if descriptor.is_symlink() else Path()
            if target.is_relative_to(versions):
                found.append(str(target))
        return found

    for backend in ("onnx", "openvino"):
        load(versions / "used", backend).close()
        assert not held()
