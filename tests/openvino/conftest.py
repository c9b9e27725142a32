"""Models exported once per run and shared, also between the processes of pytest-xdist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

import core
from core import EmbeddingModel
from tests.conftest import build_tiny_model, copy_model, kept

Exported = Callable[[str], Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Exported:
    """`exported(name)`: a model directory with `openvino/openvino_model.xml`. Read only.

    `name` is "minilm" or one of `tiny_models.SPECS`.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    root = shared / "openvino-models"
    root.mkdir(exist_ok=True)

    def export(name: str) -> Path:
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "openvino" / "openvino_model.xml.json").exists():
                copy_model(minilm if name == "minilm" else build_tiny_model(name), folder)
                core.export(folder, backend="openvino")
        return folder

    return export


@pytest.fixture(scope="session")
def minilm_openvino(exported: Exported) -> Iterator[EmbeddingModel]:
    """all-MiniLM-L6-v2 on the openvino backend; shared, so leave it as it is."""
    with core.load(exported("minilm"), backend="openvino") as loaded, kept(loaded):
        yield loaded


@pytest.fixture
def tiny(exported: Exported, tmp_path: Path) -> Path:
    """A copy of a tiny BERT with its OpenVINO file, for tests that write."""
    return copy_model(exported("bert-mean"), tmp_path / "tiny")
