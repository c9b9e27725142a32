"""A Ray of this machine alone, and a small model; `make ray` runs these tests."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.pop("CORE_NUM_THREADS", None)

import ray

import core

WORDS = ("fox", "dog", "river", "house", "runs", "sleeps", "blue", "green", "slowly", "never")


@pytest.fixture(scope="session")
def models() -> Path:
    """Where the exported models are that `make ray` makes."""
    return Path(os.environ["CORE_EXAMPLE_MODELS"])


@pytest.fixture(scope="session")
def folder(models: Path) -> Path:
    """An exported embedding model."""
    return models / "bert-mean"


@pytest.fixture(scope="session")
def model(folder: Path) -> Iterator[core.EmbeddingModel]:
    with core.load(folder, backend="onnx", device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=300 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    chance = random.Random(0)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 40))) for _ in range(20_000)]
