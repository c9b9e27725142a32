"""Tiny multi-vector models of every layout, made once for a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import core
from tests.conftest import exported_once, kept

#: Backends that run multi-vector models.
BACKENDS = ("torch", "onnx", "openvino")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a multi-vector model of `tests.tiny_kinds`, exported for every backend; read only."""
    base = tmp_path_factory.getbasetemp()
    return exported_once(base, "multi-vector", core.load_multi_vector)


@pytest.fixture
def writable(exported: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an exported model that a test may write to."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(exported(name), tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def colbert(tiny_kind: Callable[[str], Path]) -> Iterator[core.MultiVectorEncoder]:
    """A model with everything but pooling, on torch; for all tests, which change nothing of it."""
    with core.load_multi_vector(tiny_kind("colbert"), backend="torch") as model, kept(model):
        yield model
