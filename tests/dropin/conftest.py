"""Models by the drop-in names, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.sentence_transformers import SentenceTransformer
from tests.conftest import copy_model
from tests.dropin.ways import REPO
from tests.hub.conftest import folder_files, hub
from tests.hub.loopback import LoopbackHub

__all__ = ["hub"]


@pytest.fixture(scope="session")
def tiny(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with ONNX and OpenVINO files beside its weights. Copy it to write to it."""
    import core

    folder = copy_model(tiny_model("bert-mean"), tmp_path_factory.mktemp("dropin") / "tiny")
    for backend in ("onnx", "openvino"):
        core.export(str(folder), backend=backend)
    return folder


@pytest.fixture(scope="session")
def model(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the torch backend; tests leave it as it is."""
    loaded = SentenceTransformer(str(tiny), device="cpu")
    yield loaded
    loaded.embedding_model.close()


@pytest.fixture(scope="session")
def onnx(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the onnx backend."""
    loaded = SentenceTransformer(str(tiny), backend="onnx")
    yield loaded
    loaded.embedding_model.close()


@pytest.fixture(scope="session")
def openvino(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the openvino backend."""
    loaded = SentenceTransformer(str(tiny), backend="openvino")
    yield loaded
    loaded.embedding_model.close()


@pytest.fixture
def local(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may write to."""
    return copy_model(tiny, tmp_path / "local")


@pytest.fixture
def repository(hub: LoopbackHub, tiny: Path) -> LoopbackHub:
    """The Hub, with the tiny model and its exported files in `acme/tiny`."""
    hub.create(REPO).add(folder_files(tiny))
    return hub


@pytest.fixture
def plain(hub: LoopbackHub, tiny_model: Callable[[str], Path]) -> LoopbackHub:
    """The Hub, with the tiny model's weights and no exported file in `acme/tiny`."""
    hub.create(REPO).add(folder_files(tiny_model("bert-mean")))
    return hub
