"""ONNX exports shared by the tests of the backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import core
from core import EmbeddingModel
from tests.conftest import Exports, kept


@pytest.fixture(scope="session")
def exported(exports: Exports) -> Callable[[str], Path]:
    """`exported(name)`: a model's directory with its ONNX file. Read only."""
    return lambda name: exports(name, "onnx")


@pytest.fixture
def tiny(exported: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny BERT with its ONNX file, to write to."""
    # No links: tests write into the ONNX file itself.
    return Path(shutil.copytree(exported("bert-mean"), tmp_path / "tiny"))


@pytest.fixture(scope="session")
def onnx_minilm(exports: Exports) -> Path:
    """The real all-MiniLM-L6-v2 with its ONNX file. Read only."""
    return exports("minilm", "onnx")


@pytest.fixture(scope="session")
def model(onnx_minilm: Path) -> Iterator[EmbeddingModel]:
    """The real model on ONNX Runtime; shared, so leave it as it is."""
    file = "onnx/model.onnx"
    with core.load(onnx_minilm, backend="onnx", file_name=file) as loaded, kept(loaded):
        yield loaded


@pytest.fixture(scope="session")
def probes() -> list[str]:
    """Ordinary sentences."""
    subjects = ("A man", "Two dogs", "The committee", "A child in a red coat", "Nobody")
    verbs = ("is walking", "are playing a guitar", "rejected the proposal", "runs", "is cooking")
    places = ("in the park", "near the old harbour", "on Monday", "without looking back")
    return [f"{s} {v} {p}." for s in subjects for v in verbs for p in places]
