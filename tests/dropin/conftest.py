"""Models by the drop-in names, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.sentence_transformers import SentenceTransformer
from tests.conftest import Exports, copy_model, kept
from tests.dropin.ways import REPO
from tests.hub.conftest import folder_files, hub
from tests.hub.loopback import LoopbackHub

__all__ = ["hub"]


@pytest.fixture(scope="session")
def tiny(exports: Exports) -> Path:
    """A tiny BERT with ONNX and OpenVINO files beside its weights. Copy it to write to it."""
    return exports("bert-mean", "onnx", "openvino")


def shared(model: SentenceTransformer) -> Iterator[SentenceTransformer]:
    """For tests that leave it as it is."""
    with model.embedding_model as held, kept(held):
        yield model
        assert model.embedding_model is held, "a test changed a model that other tests share"


@pytest.fixture(scope="session")
def model(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the torch backend; tests leave it as it is."""
    yield from shared(SentenceTransformer(str(tiny), device="cpu"))


@pytest.fixture(scope="session")
def onnx(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the onnx backend."""
    yield from shared(SentenceTransformer(str(tiny), backend="onnx"))


@pytest.fixture(scope="session")
def openvino(tiny: Path) -> Iterator[SentenceTransformer]:
    """The tiny model on the openvino backend."""
    yield from shared(SentenceTransformer(str(tiny), backend="openvino"))


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
