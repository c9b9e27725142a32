"""Tiny multi-vector models of every layout, made once for a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

import core
from tests import tiny_kinds
from tests.conftest import kept

#: Backends that run multi-vector models.
BACKENDS = ("torch", "onnx", "openvino")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a multi-vector model of `tests.tiny_kinds`, exported for every backend; read only.

    Each is made once in a run, whichever process comes first.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if base.name.startswith("popen-") else base) / "multi-vector"
    root.mkdir(exist_ok=True)

    def make(name: str) -> Path:
        folder = root / name
        done = root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.is_file():
                tiny_kinds.build(name, folder)
                with core.load_multi_vector(folder, backend="torch") as model:
                    for backend in BACKENDS[1:]:
                        core.export(model, backend=backend)
                done.touch()
        return folder

    return make


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
