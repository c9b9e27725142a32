"""One loopback Hub that serves all-MiniLM-L6-v2 under its own name, whole or a part of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.testing import tiny_multi_vector, tiny_reranker, tiny_sparse
from tests.conftest import ROOT, Exports, with_one_layer
from tests.hub.conftest import folder_files
from tests.hub.loopback import TOKEN, LoopbackHub
from tests.outputs.conftest import build_m3

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
#: The page that asserts what the real model finds. On the others its first layer and its most
#: frequent words do: every block runs, and to make and compare files of six layers and to write
#: embeddings of 30,522 words is most of what the pages took.
WHOLE = ROOT / "docs/tutorial.md"
WORDS = 8_000
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
        hub.create(MINILM).add(folder_files(smaller(minilm, folder / "smaller")))
        hub.create(M3).add(folder_files(build_m3(folder / "m3")))
        hub.create(RERANKER).add(folder_files(tiny_reranker(folder / "reranker")))
        hub.create(MULTI_VECTOR).add(folder_files(tiny_multi_vector(folder / "multi-vector")))
        hub.create(SPARSE).add(folder_files(tiny_sparse(folder / "sparse")))
        yield hub, folder


def smaller(whole: Path, target: Path) -> Path:
    """A BERT checkpoint with its first layer and the first `WORDS` of its words."""
    from safetensors.numpy import load_file, save_file

    with_one_layer(whole, target)
    weights = target / "model.safetensors"
    tensors = {
        name: np.ascontiguousarray(tensor[:WORDS]) if "word_embeddings" in name else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, {"format": "pt"})
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = WORDS
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = (target / "vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (target / "vocab.txt").write_text("".join(words[:WORDS]), encoding="utf-8")
    tokenizer = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    known = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word: id for word, id in known.items() if id < WORDS}
    (target / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return target


@pytest.fixture
def hub(
    page: Path,
    published: tuple[LoopbackHub, Path],
    exports: Exports,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LoopbackHub]:
    """The Hub for a page, its variables set.

    What a test pushes is undone, so tests cannot see each other.
    """
    running, folder = published
    before = set(running.root.rglob("*.git"))
    store = running.store(MINILM)
    references = store.references()
    if page == WHOLE:  # with files for two backends, as the real repository has them
        store.add(folder_files(exports("minilm", "onnx", "openvino")))
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CORE_CACHE", str(folder / "core"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield running
    for path in set(running.root.rglob("*.git")) - before:
        shutil.rmtree(path)
    for name, commit in store.references().items():
        if name in references:
            store.point(name, references[name])
        else:
            store.git("update-ref", "-d", name, commit)
