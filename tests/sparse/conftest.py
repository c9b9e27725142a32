"""Tiny sparse encoders of every layout, made once for a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import core
from core import SparseEmbeddings
from tests.conftest import exported_once

#: Backends that run sparse encoders.
BACKENDS = ("torch", "onnx", "openvino")

#: Values that are nothing on one side are rounding.
TOLERANCE = 1e-4


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a sparse encoder of `tests.tiny_kinds`, exported for every backend; read only."""
    base = tmp_path_factory.getbasetemp()
    return exported_once(base, "sparse", core.load_sparse)


@pytest.fixture
def writable(sparse: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a sparse encoder that a test may write to."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(sparse(name), tmp_path / name))

    return copy


def assert_close(found: SparseEmbeddings, expected: SparseEmbeddings | NDArray[Any]) -> None:
    """The same dimensions, but for values near nothing, and the same values."""
    wanted = expected if isinstance(expected, np.ndarray) else expected.to_dense()
    np.testing.assert_allclose(found.to_dense(), wanted, atol=TOLERANCE, rtol=TOLERANCE)
