"""Folders that are links: followed inside a model's directory, refused where they lead out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.errors import ModelFormatError
from tests.checkpoint.dialects import build_dialect
from tests.conftest import Exports

TEXTS = ["one text", "another, longer text about vectors"]


@pytest.fixture
def tiny(exports: Exports, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(exports("bert-cls", "torch", "onnx", "openvino"), folder)
    return folder


def embed(folder: Path, backend: str) -> np.ndarray:
    with core.load(folder, backend=backend, device="cpu", export=False) as model:
        result: np.ndarray = model.encode(TEXTS)
        return result


def kubernetes(folder: Path) -> None:
    """Everything in a hidden folder of its own, and links to it through another: a volume."""
    real = folder / "..2026_11_26"
    real.mkdir()
    for entry in [entry for entry in folder.iterdir() if entry != real]:
        entry.rename(real / entry.name)
        entry.symlink_to(Path("..data", entry.name))
    (folder / "..data").symlink_to(real.name)


def beside(folder: Path) -> None:
    for name in ("1_Pooling", "onnx", "openvino"):
        (folder / name).rename(folder / f"{name}-v2")
        (folder / name).symlink_to(f"{name}-v2")


def chained(folder: Path) -> None:
    """A link to a link, and links inside a linked folder."""
    beside(folder)
    (folder / "onnx").unlink()
    (folder / "parts").mkdir()
    (folder / "parts/graphs").symlink_to("../onnx-v2")
    (folder / "onnx").symlink_to("parts/graphs")


@pytest.mark.parametrize("layout", [kubernetes, beside, chained])
@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_links_to_folders_inside_the_directory_are_followed(
    tiny: Path, tmp_path: Path, layout: object, backend: str
) -> None:
    expected = embed(tiny, backend)
    assert callable(layout)
    layout(tiny)
    np.testing.assert_array_equal(embed(tiny, backend), expected)
    with core.load(tiny, backend=backend, device="cpu") as model:
        model.save(tmp_path / "saved")
    np.testing.assert_array_equal(embed(tmp_path / "saved", backend), expected)
    assert not any(path.is_symlink() for path in (tmp_path / "saved").rglob("*"))


def test_a_transformer_in_a_linked_folder_loads(tmp_path: Path) -> None:
    folder = build_dialect("transformer-in-a-folder", tmp_path / "model")
    expected = embed(folder, "torch")
    (folder / "0_Transformer").rename(folder / "transformer")
    (folder / "0_Transformer").symlink_to("transformer")
    np.testing.assert_array_equal(embed(folder, "torch"), expected)


def test_links_in_circles_end(tiny: Path) -> None:
    (tiny / "self").symlink_to(".")
    (tiny / "a/x").mkdir(parents=True)
    (tiny / "b").mkdir()
    (tiny / "a/b").symlink_to("../b")
    (tiny / "b/a").symlink_to("../a")
    names = resolve(tiny).names
    assert "1_Pooling/config.json" in names
    assert not any(name.startswith("self/") for name in names)


def test_many_links_to_each_other_are_listed_in_bounded_time(tiny: Path) -> None:
    places = [tiny / f"d{i}" for i in range(30)]
    for place in places:
        place.mkdir()
        (place / "file").touch()
    for place in places:
        for other in places:
            (place / f"to-{other.name}").symlink_to(f"../{other.name}")
    assert len(resolve(tiny).names) < 30 * 30 * 4


@pytest.mark.parametrize("name", ["1_Pooling", "onnx", "openvino"])
def test_links_to_folders_outside_are_refused(tiny: Path, name: str) -> None:
    (tiny / name).rename(tiny.parent / name)
    (tiny / name).symlink_to(tiny.parent / name)
    with pytest.raises(ModelFormatError, match=r"is a link to .*outside the model's directory"):
        embed(tiny, "onnx" if name == "1_Pooling" else name)


def test_a_linked_folder_outside_that_nobody_asks_for_does_no_harm(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/log.txt").touch()
    (tiny / "runs").symlink_to(tmp_path / "runs")
    with core.load(tiny, backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved/runs").exists()
