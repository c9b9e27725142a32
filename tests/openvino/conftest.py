"""OpenVINO exports shared by the tests of the backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import core
from core import EmbeddingModel
from tests.conftest import Exports, copy_model, kept

Exported = Callable[[str], Path]


@pytest.fixture(scope="session")
def exported(exports: Exports) -> Exported:
    """`exported(name)`: a model's directory with `openvino/openvino_model.xml`. Read only."""
    return lambda name: exports(name, "openvino")


@pytest.fixture(scope="session")
def minilm_openvino(exported: Exported) -> Iterator[EmbeddingModel]:
    """all-MiniLM-L6-v2 on the openvino backend; shared, so leave it as it is."""
    with core.load(exported("minilm"), backend="openvino") as loaded, kept(loaded):
        yield loaded


@pytest.fixture
def tiny(exported: Exported, tmp_path: Path) -> Path:
    """A copy of a tiny BERT with its OpenVINO file, for tests that write."""
    return copy_model(exported("bert-mean"), tmp_path / "tiny")
