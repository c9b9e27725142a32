"""Tiny rerankers of every layout, made once for a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import core
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from tests.conftest import exported_once

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

    Names with "activation" in them are
    for torch alone.
    """
    base = tmp_path_factory.getbasetemp()
    return exported_once(base, "rerankers", core.load_reranker, "activation")


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
