"""ONNX exports shared by the tests of the backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import core
from core import EmbeddingModel
from tests.conftest import build_tiny_model, copy_model, kept


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`exported(name)`: a tiny model's directory with its ONNX file. Read only."""

    @cache
    def export(name: str) -> Path:
        folder = copy_model(build_tiny_model(name), tmp_path_factory.mktemp("onnx") / name)
        core.export(folder, backend="onnx")
        return folder

    return export


@pytest.fixture
def tiny(exported: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny BERT with its ONNX file, to write to."""
    # No links: tests write into the ONNX file itself.
    return Path(shutil.copytree(exported("bert-mean"), tmp_path / "tiny"))


@pytest.fixture(scope="session")
def onnx_minilm(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real all-MiniLM-L6-v2 with its ONNX file; artifacts may be added, nothing changed."""
    folder = copy_model(minilm, tmp_path_factory.mktemp("onnx") / "all-MiniLM-L6-v2")
    core.export(folder, backend="onnx")
    return folder


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
