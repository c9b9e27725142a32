"""Tiny rerankers of every layout, made once for a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import core
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from tests import tiny_kinds

#: Backends that run rerankers.
BACKENDS = ("torch", "onnx", "openvino")

PAIRS = [
    ("what is a cat", "a cat is a small animal"),
    ("what is a cat", "dogs bark loudly at night when the moon is out"),
    ("who", "the quick brown fox jumps over a lazy dog, " * 8 + "twice"),
    ("the quick brown fox " * 60 + "ends", "jumps over the lazy dog " * 80 + "here"),
    ("x", ""),
]


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a reranker of `tests.tiny_kinds`, exported for every backend; read only.

    Each is made once in a run, whichever process comes first. Names with "activation" in them are
    for torch alone.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if base.name.startswith("popen-") else base) / "rerankers"
    root.mkdir(exist_ok=True)

    def make(name: str) -> Path:
        folder = root / name
        done = root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.is_file():
                tiny_kinds.build(name, folder)
                if "activation" not in name:
                    with core.load_reranker(folder, backend="torch") as model:
                        for backend in BACKENDS[1:]:
                            core.export(model, backend=backend)
                done.touch()
        return folder

    return make


@contextmanager
def registered(name: str, plugin: Any) -> Iterator[None]:
    """A backend registered in code for a while."""
    core.register_backend(name, plugin)
    try:
        yield
    finally:
        registry.unregister(BACKEND_GROUP, name)


@pytest.fixture
def writable(reranker: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a reranker that a test may write to."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(reranker(name), tmp_path / name))

    return copy
