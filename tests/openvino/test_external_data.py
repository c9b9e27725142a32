"""ONNX files with external data on OpenVINO: only files of the model, and links of the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import core
from core.errors import ModelFormatError
from tests.conftest import Exports

FILE = "onnx/model.onnx"
TEXTS = ["one text", "another, longer text about vectors"]
MEMORY = "*/_ORT_MEM_ADDR_/*"


@pytest.fixture
def external(exports: Exports, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(exports("bert-cls", "onnx", "openvino"), folder)
    model = onnx.load(folder / FILE)
    (folder / FILE).unlink()
    onnx.save(model, folder / FILE, save_as_external_data=True, location="model.onnx_data")
    return folder


def relocate(folder: Path, location: str) -> None:
    model = onnx.load(folder / FILE, load_external_data=False)
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / FILE).write_bytes(model.SerializeToString())


def embed(folder: Path, backend: str) -> np.ndarray:
    with core.load(folder, backend=backend, device="cpu", file_name=FILE) as model:
        result: np.ndarray = model.encode(TEXTS)
        return result


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("there", [False, True], ids=["alone", "with a file of that name"])
@pytest.mark.parametrize("location", [MEMORY, MEMORY.lower(), "x/_ORT_MEM_ADDR_/y"])
def test_external_data_in_memory_is_refused(
    external: Path, backend: str, location: str, there: bool
) -> None:
    relocate(external, location)
    if there:
        place = external / "onnx" / location
        place.parent.mkdir(parents=True)
        shutil.copyfile(external / "onnx/model.onnx_data", place)
    with pytest.raises(ModelFormatError, match="addresses in memory"):
        embed(external, backend)


@pytest.mark.parametrize("outside", ["../secret.bin", "/etc/hostname", "a/../../secret.bin"])
def test_external_data_outside_the_model_is_refused(external: Path, outside: str) -> None:
    (external / "secret.bin").write_bytes((external / "onnx/model.onnx_data").read_bytes())
    relocate(external, outside)
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        embed(external, "openvino")


def test_external_data_that_is_a_link_out_of_the_model_is_refused(external: Path) -> None:
    (external / "onnx/model.onnx_data").rename(external.parent / "weights")
    (external / "onnx/model.onnx_data").symlink_to(external.parent / "weights")
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        embed(external, "openvino")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_external_data_of_a_function_is_seen(external: Path, backend: str) -> None:
    model = onnx.load(external / FILE, load_external_data=False)
    weight = onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "../outside.bin")
    weight.ClearField("raw_data")
    function = onnx.helper.make_function(
        "own", "F", ["x"], ["y"], [onnx.helper.make_node("Identity", ["x"], ["y"])], [],
        attribute_protos=[onnx.helper.make_attribute("w", weight)],
    )  # fmt: skip
    model.functions.append(function)
    (external / FILE).write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        embed(external, backend)


def blobs(folder: Path) -> Path:
    """The directory as the Hub's cache keeps it: links to blobs beside the snapshots."""
    repository = folder.parent / "models--acme--tiny"
    snapshot = repository / "snapshots/abc"
    (repository / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        blob = repository / "blobs" / f"{number:040}"
        path.rename(blob)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return snapshot


@pytest.mark.parametrize("can_link", [True, False], ids=["one disk", "two disks"])
def test_external_data_in_the_cache_of_the_hub_is_read(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    expected = embed(external, "openvino")
    snapshot = blobs(external)
    cache = tmp_path / "cache"
    monkeypatch.setenv("CORE_CACHE", str(cache))
    if not can_link:
        monkeypatch.setattr("os.link", refuse)
    np.testing.assert_array_equal(embed(snapshot, "openvino"), expected)
    assert not list(cache.glob("gathered-*"))


def refuse(*_: object, **__: object) -> None:
    raise OSError(18, "Invalid cross-device link")


@pytest.fixture
def quiet_kubernetes(external: Path) -> Callable[[], None]:
    def lay_out() -> None:
        (external / "..v1").mkdir()
        (external / "onnx").rename(external / "..v1/onnx")
        (external / "onnx").mkdir()
        for path in (external / "..v1/onnx").iterdir():
            (external / "onnx" / path.name).symlink_to(f"../..v1/onnx/{path.name}")

    return lay_out


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_external_data_that_is_a_link_inside_the_model_is_read(
    external: Path, quiet_kubernetes: Callable[[], None], backend: str
) -> None:
    expected = embed(external, backend)
    quiet_kubernetes()
    np.testing.assert_array_equal(embed(external, backend), expected)
