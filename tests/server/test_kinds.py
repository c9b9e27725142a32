"""Models of every kind behind one server, on every backend, against the same in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from tests.conftest import exported_once
from tests.server.conftest import Running, running

TEXTS = ["a small cat", "", "dogs bark loudly at night " * 30, "naïve café 机器学习", "a small cat"]
LONG = "word " * 2_000
#: What asks for a result of one text, by route.
BODIES: dict[str, dict[str, Any]] = {
    "/embed": {"inputs": "a"},
    "/v1/embeddings": {"input": "a"},
    "/embed_all": {"inputs": "a"},
    "/embed_sparse": {"inputs": "a"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/predict": {"inputs": ["a", "b"]},
    "/rerank": {"query": "a", "texts": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
}


@dataclass
class Kinds:
    """One server, and its models in this process."""

    server: Running
    sparse: core.SparseEncoder
    multi_vector: core.MultiVectorEncoder
    reranker: core.Reranker


@pytest.fixture(
    scope="module",
    params=[
        "torch",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "openvino")),
    ],
)
def kinds(
    request: pytest.FixtureRequest,
    tiny_kind: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kinds]:
    """A sparse encoder, a multi-vector model and a reranker on one backend, in one process."""
    loaders: dict[str, tuple[str, str, Callable[..., Any]]] = {
        "splade": ("sparse", "splade", core.load_sparse),
        "colbert": ("multi-vector", "colbert", core.load_multi_vector),
        "reranker": ("rerankers", "reranker-bert", core.load_reranker),
    }
    backend: str = request.param
    folders = {
        name: tiny_kind(model)
        if backend == "torch"
        else exported_once(tmp_path_factory.getbasetemp(), folder, load)(model)
        for name, (folder, model, load) in loaders.items()
    }
    with ExitStack() as stack:
        named = [f"{name}={folder}" for name, folder in folders.items()]
        server = stack.enter_context(running(*named, backend=backend))
        own = {
            name: stack.enter_context(load(folders[name], backend=backend))
            for name, (_, _, load) in loaders.items()
        }
        yield Kinds(server, own["splade"], own["colbert"], own["reranker"])


def assert_sparse(found: list[list[dict[str, float]]], expected: core.SparseEmbeddings) -> None:
    """The same dimensions in ascending order, and the same values."""
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert all(set(one) == {"index", "value"} for one in row)
        assert [one["index"] for one in row] == sorted(wanted.indices.tolist())
        values = dict(zip(wanted.indices.tolist(), wanted.values.tolist(), strict=True))
        np.testing.assert_allclose(
            [one["value"] for one in row], [values[int(one["index"])] for one in row], atol=1e-5
        )


def assert_vectors(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_sparse_embeddings(kinds: Kinds) -> None:
    expected = kinds.sparse.encode(TEXTS)
    for path, model in (("/embed_sparse", None), ("/", "splade")):
        assert_sparse(kinds.server.post(path, {"inputs": TEXTS, "model": model}).json(), expected)
    assert_sparse(kinds.server.post("/embed_sparse", {"inputs": TEXTS[0]}).json(), expected[:1])


@pytest.mark.parametrize("name", [None, "query", "document"])
def test_multi_vector_embeddings(kinds: Kinds, name: str | None) -> None:
    encoders = {
        None: kinds.multi_vector.encode,
        "query": kinds.multi_vector.encode_query,
        "document": kinds.multi_vector.encode_document,
    }
    expected: list[Any] = encoders[name](TEXTS)
    body = {"inputs": TEXTS, "prompt_name": name}
    assert_vectors(kinds.server.post("/embed_all", body).json(), expected)
    body["model"] = "colbert"
    assert_vectors(kinds.server.post("/", body).json(), expected)


def test_reranking(kinds: Kinds) -> None:
    ranked: list[dict[str, Any]] = kinds.reranker.rank("what is a cat", TEXTS)
    found = kinds.server.post("/rerank", {"query": "what is a cat", "texts": TEXTS}).json()
    assert [one["index"] for one in found] == [one["corpus_id"] for one in ranked]
    np.testing.assert_allclose(
        [one["score"] for one in found], [one["score"] for one in ranked], atol=1e-5
    )


def test_texts_of_every_kind_that_are_too_long(kinds: Kinds) -> None:
    server = kinds.server
    cut = server.post("/embed_sparse", {"inputs": LONG}).json()
    assert_sparse(cut, kinds.sparse.encode([LONG]))
    assert_vectors(
        server.post("/embed_all", {"inputs": LONG}).json(), kinds.multi_vector.encode([LONG])
    )
    for path, body in (
        ("/embed_sparse", {"inputs": LONG}),
        ("/embed_all", {"inputs": LONG}),
        ("/predict", {"inputs": ["a", LONG]}),
        ("/rerank", {"query": "a", "texts": [LONG]}),
    ):
        refused = server.post(path, {**body, "truncate": False})
        assert refused.status_code == 422
        assert "Input 0 has" in refused.json()["error"]


def test_pairs_are_not_cut_at_another_end_than_asked_for(kinds: Kinds) -> None:
    left = {"truncation_direction": "Left"}
    for path, short, long in (
        ("/predict", {"inputs": ["a", "b"]}, {"inputs": ["a", LONG]}),
        ("/rerank", {"query": "a", "texts": ["b"]}, {"query": "a", "texts": ["b", LONG]}),
    ):
        assert kinds.server.post(path, short | left).json() == kinds.server.post(path, short).json()
        refused = kinds.server.post(path, long | left)
        assert refused.status_code == 422
        assert "tokens" in refused.json()["error"]
        assert "truncation_direction" in refused.json()["error"]


@pytest.mark.parametrize(
    ("model", "noun", "routes"),
    [
        ("splade", "a sparse encoder", {"/embed_sparse"}),
        ("colbert", "a multi-vector model", {"/embed_all"}),
        ("reranker", "a reranker", {"/predict", "/rerank", "/v1/rerank"}),
    ],
)
def test_routes_for_other_kinds_say_so(
    kinds: Kinds, model: str, noun: str, routes: set[str]
) -> None:
    for path, body in BODIES.items():
        answer = kinds.server.post(path, {**body, "model": model})
        if path in routes:
            assert answer.status_code == 200
            continue
        assert answer.status_code == 422
        assert f"'{model}' is {noun}" in answer.text
        # Names of those that it is for, where there is one.
        others = {"/embed_sparse": "splade", "/embed_all": "colbert", "/rerank": "reranker"}
        assert path not in others or f"'{others[path]}'" in answer.json()["error"]


def test_routes_that_no_model_is_for_list_the_models(kinds: Kinds) -> None:
    answer = kinds.server.post("/embed", {"inputs": "a"})
    assert answer.status_code == 422
    for words in ("embedding models", "'splade' (a sparse encoder)", "'reranker' (a reranker)"):
        assert words in answer.json()["error"]


def test_every_kind_is_told_apart_in_what_operators_see(kinds: Kinds) -> None:
    server = kinds.server
    expected = {"splade": "sparse", "colbert": "multi_vector", "reranker": "reranker"}
    listed = {one["id"]: one["kind"] for one in server.client.get("/v1/models").json()["data"]}
    assert listed == expected
    info = server.client.get("/info").json()
    assert {one["id"]: one["kind"] for one in info["models"]} == expected
    assert set(server.client.get("/health").json()["models"]) == set(expected)
    for model in expected:
        tokens = server.post("/tokenize", {"inputs": "a cat", "model": model}).json()[0]
        assert len(tokens) > 2
        before = server.metric("core_tokens_total", model=model)
        route = {"splade": "/embed_sparse", "colbert": "/embed_all", "reranker": "/rerank"}[model]
        server.post(route, BODIES[route])
        assert server.metric("core_tokens_total", model=model) > before


@pytest.fixture(scope="module")
def special(tiny_kind: Callable[[str], Path]) -> Iterator[Running]:
    """An embedding model with further heads, queries without a transformer, several labels."""
    names = ("bge-m3", "inference-free", "reranker-labels")
    with running(*(f"{name}={tiny_kind(name)}" for name in names)) as server:
        yield server


def test_an_embedding_model_with_a_head_for_words(
    special: Running, tiny_kind: Callable[[str], Path]
) -> None:
    with core.load(tiny_kind("bge-m3"), backend="torch") as model:
        expected = model.encode(TEXTS, outputs=("dense", "sparse"))
        tokens = model.encode(TEXTS, output_value="token_embeddings")
    body = {"inputs": TEXTS, "model": "bge-m3"}
    assert_sparse(special.post("/embed_sparse", body).json(), expected["sparse"])
    assert_vectors(special.post("/embed_all", body).json(), tokens)
    dense = special.post("/embed", {**body, "normalize": False}).json()
    np.testing.assert_allclose(dense, expected["dense"], atol=1e-5)
    assert special.client.get("/info").json()["models"][0]["outputs"][:2] == ["dense", "sparse"]


def test_queries_and_documents_of_a_sparse_encoder(
    special: Running, tiny_kind: Callable[[str], Path]
) -> None:
    body = {"inputs": TEXTS, "model": "inference-free"}
    with core.load_sparse(tiny_kind("inference-free"), backend="torch") as model:
        encoders = {"query": model.encode_query, "document": model.encode_document}
        for name, encode in encoders.items():
            found = special.post("/embed_sparse", {**body, "prompt_name": name}).json()
            assert_sparse(found, encode(TEXTS))
    wrong = special.post("/embed_sparse", {**body, "prompt_name": "other"})
    assert wrong.status_code == 422
    assert "'query'" in wrong.json()["error"]


def test_a_reranker_of_several_labels(special: Running, tiny_kind: Callable[[str], Path]) -> None:
    pairs = [("a cat", text) for text in TEXTS]
    with core.load_reranker(tiny_kind("reranker-labels"), backend="torch") as model:
        raw = model.predict(pairs, activation_fn="Identity")
        shares = model.predict(pairs, apply_softmax=True)
        labels = list(model.labels)
    for options, expected in (({"raw_scores": True}, raw), ({}, shares)):
        found = special.post("/predict", {"inputs": [*map(list, pairs)], **options}).json()
        for row, wanted in zip(found, expected, strict=True):
            assert [one["score"] for one in row] == sorted((s["score"] for s in row), reverse=True)
            scores = {one["label"]: one["score"] for one in row}
            np.testing.assert_allclose([scores[label] for label in labels], wanted, atol=1e-5)
    refused = special.post("/rerank", {"query": "a", "texts": ["b"]})
    assert refused.status_code == 422
    assert "3 scores" in refused.json()["error"]
