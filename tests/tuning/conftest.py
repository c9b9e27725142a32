"""A tiny model, texts, and a cache of its own for each test of the choice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from core.testing import tiny_model
from core.testing.subject import TEXTS

WORDS = sorted({word for text in TEXTS for word in text.lower().split() if word.isalpha()})


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory, and a cache that no other test has filled."""
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    return tiny_model(tmp_path / "model")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Different texts of words that the model knows."""
    choose = random.Random(5)
    found: dict[str, None] = {}
    while len(found) < 150:
        found[" ".join(choose.choices(WORDS, k=choose.randint(3, 12)))] = None
    return list(found)
