"""Texts, a small model and what it makes of them in this process."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import core

WORDS = ("fox", "dog", "river", "house", "runs", "sleeps", "blue", "green", "slowly", "never")
ROWS = 2_000


@pytest.fixture(scope="session")
def model() -> str:
    """An exported model, from `make spark` and `make daft`."""
    return str(Path(os.environ["CORE_EXAMPLE_MODELS"], "bert-mean"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Parquet files with the columns `id` and `text`."""
    chance = random.Random(0)
    folder = tmp_path_factory.mktemp("source")
    for file in range(2):
        ids = [f"r{i}" for i in range(file * ROWS // 2, (file + 1) * ROWS // 2)]
        texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 40))) for _ in ids]
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"{file}.parquet")
    return folder


def assert_embedded(source: Path, target: Path, model: str) -> None:
    """Every row is there once, with the embedding that `core` computes here."""
    texts = rows_of(source, "text")
    found = rows_of(target, "embedding")
    assert len(found) == ROWS
    assert set(found) == set(texts)
    with core.load(model, backend="onnx") as loaded:
        expected = loaded.encode(list(texts.values()))
    np.testing.assert_allclose([found[key] for key in texts], expected, atol=1e-5)


def rows_of(folder: Path, column: str) -> dict[str, Any]:
    table = pa.concat_tables(pq.read_table(file) for file in sorted(folder.rglob("*.parquet")))
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))
