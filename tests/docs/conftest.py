"""One loopback Hub that serves the real all-MiniLM-L6-v2 under its own name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.testing import tiny_multi_vector, tiny_reranker, tiny_sparse
from tests.hub.conftest import folder_files
from tests.hub.loopback import TOKEN, LoopbackHub
from tests.outputs.conftest import build_m3

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
#: Tiny ones take their places.
RERANKER = "cross-encoder/ms-marco-MiniLM-L6-v2"
MULTI_VECTOR = "lightonai/GTE-ModernColBERT-v1"

SPARSE = "naver/splade-cocondenser-ensembledistil"
M3 = "BAAI/bge-m3"


@pytest.fixture(scope="session")
def published(
    minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LoopbackHub, Path]]:
    """A running Hub, and the folder with its caches, which pages share."""
    folder = tmp_path_factory.mktemp("published")
    with LoopbackHub(folder / "hub") as hub:
        hub.create(MINILM).add(folder_files(minilm))
        hub.create(M3).add(folder_files(build_m3(folder / "m3")))
        hub.create(RERANKER).add(folder_files(tiny_reranker(folder / "reranker")))
        hub.create(SPARSE).add(folder_files(tiny_sparse(folder / "sparse")))
        hub.create(MULTI_VECTOR).add(folder_files(tiny_multi_vector(folder / "multi-vector")))
        yield hub, folder


@pytest.fixture
def hub(
    published: tuple[LoopbackHub, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    """The Hub, its variables set; what a test pushes is undone, so tests cannot see each other."""
    running, folder = published
    before = set(running.root.rglob("*.git"))
    references = running.store(MINILM).references()
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CORE_CACHE", str(folder / "core"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield running
    for path in set(running.root.rglob("*.git")) - before:
        shutil.rmtree(path)
    store = running.store(MINILM)
    for name, commit in store.references().items():
        if name in references:
            store.point(name, references[name])
        else:
            store.git("update-ref", "-d", name, commit)
