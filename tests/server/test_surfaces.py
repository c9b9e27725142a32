"""What each interface answers, against the same models in this process."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

import core
from core_server.routes import OPERATIONS
from tests.conftest import ROOT, Exports, copy_model
from tests.server.conftest import Running, running

TEXTS = ["a small cat", "", "dogs bark loudly at night " * 30, "naïve café 机器学习", "a small cat"]


def normalized(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_openai_floats_and_base64(server: Running, model: core.EmbeddingModel) -> None:
    expected = model.encode(TEXTS, normalize_embeddings=True)
    answer = server.post("/v1/embeddings", {"input": TEXTS, "model": "tiny"}).json()
    assert answer["object"] == "list"
    assert answer["model"] == "tiny"
    assert [one["index"] for one in answer["data"]] == list(range(len(TEXTS)))
    found = [one["embedding"] for one in answer["data"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    tokens = int(np.minimum(model.count_tokens(TEXTS), model.max_seq_length or 0).sum())
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"input": TEXTS, "encoding_format": "base64", "dimensions": 8}
    answer = server.post("/embeddings", body).json()
    packed = [base64.b64decode(one["embedding"]) for one in answer["data"]]
    rows = np.array([np.frombuffer(one, "<f4") for one in packed])
    np.testing.assert_allclose(rows, normalized(expected[:, :8]), atol=1e-5)


def test_openai_lists_models(server: Running) -> None:
    answer = server.client.get("/v1/models").json()
    names = ["tiny", "tiny-reranker", "tiny-sparse", "tiny-multi-vector"]
    assert [one["id"] for one in answer["data"]] == names
    assert server.client.get("/v1/models/tiny").json() == answer["data"][0]
    missing = server.client.get("/v1/models/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("normalize", [None, True, False])
def test_tei_embed(server: Running, model: core.EmbeddingModel, normalize: bool | None) -> None:
    expected = model.encode(TEXTS, normalize_embeddings=normalize is not False)
    body = {"inputs": TEXTS} | ({} if normalize is None else {"normalize": normalize})
    np.testing.assert_allclose(server.post("/embed", body).json(), expected, atol=1e-5)
    one = server.post("/embed", {**body, "inputs": TEXTS[0], "dimensions": 4}).json()
    wanted = model.encode(TEXTS[:1], normalize_embeddings=normalize is not False, truncate_dim=4)
    np.testing.assert_allclose(one, wanted, atol=1e-5)


def test_tei_embed_with_a_prompt(server: Running, model: core.EmbeddingModel) -> None:
    body = {"inputs": TEXTS, "prompt_name": "query", "normalize": False}
    expected = model.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(server.post("/embed", body).json(), expected, atol=1e-5)
    answer = server.post("/embed", {**body, "prompt_name": "none"})
    assert answer.status_code == 422
    assert "'query'" in answer.json()["error"]


def test_tei_embed_all(server: Running, model: core.EmbeddingModel) -> None:
    found = server.post("/embed_all", {"inputs": TEXTS}).json()
    expected = model.encode(TEXTS, output_value="token_embeddings")
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_texts_that_are_too_long(server: Running, model: core.EmbeddingModel) -> None:
    long = " ".join(f"word{i}" for i in range(400))
    cut = server.post("/embed", {"inputs": long, "normalize": False}).json()
    np.testing.assert_allclose(cut, [model.encode(long)], atol=1e-5)
    refused = server.post("/embed", {"inputs": ["a", long], "truncate": False})
    assert refused.status_code == 422
    assert "Input 1 has" in refused.json()["error"]
    assert str(model.max_seq_length) in refused.json()["error"]
    ends = [" ".join(f"word{i}" for i in range(start, 400)) for start in (0, 50)]
    body = {"inputs": ends, "truncation_direction": "Left", "truncate": True}
    first, second = server.post("/embed", body).json()
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.abs(np.subtract(first, normalized(np.array(cut[0])))).max() > 1e-3


@pytest.mark.parametrize("asked", [{"truncate": False}, {"truncation_direction": "Left"}])
def test_a_backend_that_takes_text_cannot_tell_what_is_too_long(
    asked: dict[str, Any], server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model,) = {served.model for served in server.service.models if served.kind == "embedding"}
    monkeypatch.setattr(model, "_tokenizer", None)
    refused = server.post("/embed", {"inputs": "a", **asked})
    assert refused.status_code == 422
    assert f'Leave "{next(iter(asked))}" out' in refused.json()["error"]


def test_tei_rerank(server: Running, reranker: core.Reranker) -> None:
    query, texts = "what is a cat", ["dogs bark", "a cat is a small animal", ""]
    raw = reranker.predict([(query, text) for text in texts], activation_fn="Identity")
    order = np.argsort(-raw, kind="stable").tolist()
    body = {"query": query, "texts": texts, "raw_scores": True, "return_text": True}
    found = server.post("/rerank", body).json()
    assert [one["index"] for one in found] == order
    assert [one["text"] for one in found] == [texts[i] for i in order]
    np.testing.assert_allclose([one["score"] for one in found], raw[order], atol=1e-5)
    found = server.post("/rerank", {"query": query, "texts": texts}).json()
    expected = 1 / (1 + np.exp(-raw[order]))
    np.testing.assert_allclose([one["score"] for one in found], expected, atol=1e-5)


def test_scores_of_one_sigmoid_keep_their_order(reranker_folder: Path, tmp_path: Path) -> None:
    folder = copy_model(reranker_folder, tmp_path / "certain")
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] *= 10_000
    save_file(weights, folder / "model.safetensors")
    with running(folder) as server:
        body = {"query": "what is a cat", "texts": [f"text {'cat ' * i}" for i in range(12)]}
        raw = server.post("/rerank", body | {"raw_scores": True}).json()
        found = server.post("/rerank", body).json()
        assert len({one["score"] for one in found}) < len(found)
        assert [one["index"] for one in found] == [one["index"] for one in raw]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_cohere_and_jina_rerank(server: Running, reranker: core.Reranker, path: str) -> None:
    query = "what is a cat"
    documents: list[Any] = ["dogs bark", {"text": "a cat is a small animal"}, "nothing"]
    texts = [one if isinstance(one, str) else one["text"] for one in documents]
    ranked = reranker.rank(query, texts, top_k=2, activation_fn="Sigmoid")
    body = {"query": query, "documents": documents, "top_n": 2, "return_documents": True}
    answer = server.post(path, body).json()
    assert answer["model"] == "tiny-reranker"
    found = answer["results"]
    assert [one["index"] for one in found] == [one["corpus_id"] for one in ranked]
    scores = [one["relevance_score"] for one in found]
    np.testing.assert_allclose(scores, [one["score"] for one in ranked], atol=1e-5)
    assert [one["document"]["text"] for one in found] == [texts[one["index"]] for one in found]
    none = {"query": query, "documents": documents, "top_n": None, "return_documents": None}
    assert "document" not in server.post(path, none).json()["results"][0]
    named = [{"title": "a cat", "body": "is small"}, {"title": "dogs", "body": "bark"}]
    body = {"query": query, "documents": named, "rank_fields": ["title", "body"]}
    again = server.post(path, body).json()["results"]
    joined = reranker.rank(query, ["a cat\nis small", "dogs\nbark"])
    assert [one["index"] for one in again] == [one["corpus_id"] for one in joined]


def test_tei_predict(server: Running, reranker: core.Reranker) -> None:
    pairs = [["what is a cat", "a cat"], ["who", ""]]
    expected = reranker.predict([tuple(pair) for pair in pairs], activation_fn="Sigmoid")
    found = server.post("/predict", {"inputs": pairs}).json()
    assert [one["label"] for (one,) in found] == [reranker.labels[0]] * 2
    np.testing.assert_allclose([one["score"] for (one,) in found], expected, atol=1e-5)
    (one,) = server.post("/predict", {"inputs": pairs[0]}).json()
    assert one["label"] == found[0][0]["label"]
    assert one["score"] == pytest.approx(found[0][0]["score"], abs=1e-5)
    assert server.post("/predict", {"inputs": pairs, "raw_scores": None}).json() == found
    assert server.post("/predict", {"inputs": []}).json()["error"] == "inputs is empty."
    alone = server.post("/predict", {"inputs": "one text"})
    assert alone.status_code == 422
    assert "pairs of texts" in alone.json()["error"]


def test_tei_similarity(server: Running, model: core.EmbeddingModel) -> None:
    body = {"inputs": {"source_sentence": "a cat", "sentences": TEXTS}}
    expected = model.similarity(model.encode(["a cat"]), model.encode(TEXTS))[0]
    for path in ("/similarity", "/"):
        np.testing.assert_allclose(server.post(path, body).json(), expected, atol=1e-5)


def test_tei_tokenize_and_decode(server: Running, embedding_folder: Path) -> None:
    own = tokenizers.Tokenizer.from_file(str(embedding_folder / "tokenizer.json"))
    own.no_padding()
    own.no_truncation()
    text = "a small cat sleeps"
    (found,) = server.post("/tokenize", {"inputs": text}).json()
    assert [one["id"] for one in found] == own.encode(text).ids
    assert found[0]["special"] is True
    for one in found:
        assert one["special"] or one["text"] == text[one["start"] : one["stop"]]
    ids = own.encode(text).ids
    assert server.post("/decode", {"ids": ids}).json() == [own.decode(ids)]
    assert server.post("/decode", {"ids": [ids, ids[1:2]]}).json()[1] == own.decode(ids[1:2])
    wrong = server.post("/decode", {"ids": [10_000_000]})
    assert wrong.status_code == 422
    assert "no token 10000000" in wrong.json()["error"]


def test_tei_info(server: Running, model: core.EmbeddingModel) -> None:
    found = server.client.get("/info").json()
    assert found["model_id"] == "tiny"
    assert found["max_input_length"] == model.max_seq_length
    assert found["model_type"]["embedding"]["pooling"] == "mean"
    kinds = ["embedding", "reranker", "sparse", "multi_vector"]
    assert [one["kind"] for one in found["models"]] == kinds


def test_the_address_itself_does_what_the_first_model_is_for(
    server: Running, reranker_folder: Path
) -> None:
    assert (
        server.post("/", {"inputs": TEXTS}).json()
        == server.post("/embed", {"inputs": TEXTS}).json()
    )
    body = {"inputs": [["a", "b"]], "model": "tiny-reranker"}
    assert server.post("/", body).json() == server.post("/predict", body).json()
    body = {"query": "a", "texts": ["a", "b"]}
    assert server.post("/", body).json() == server.post("/rerank", body).json()


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/embeddings", {"input": "a", "model": "tiny-reranker"}, 422, "'tiny'"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": "tiny"}, 422, "'tiny-reranker'"),
        ("/embed", {"inputs": "a", "dimensions": 33}, 422, "have 32"),
        ("/embed", {"inputs": "a", "dimensions": 0}, 422, "have 32"),
        ("/embed", {"inputs": []}, 422, "inputs is empty"),
        ("/embed", {"inputs": [1, "a"]}, 422, "mixes token ids and texts"),
        ("/embed", {}, 422, "inputs"),
        ("/embed", {"inputs": {"a": 1}}, 422, "inputs"),
        ("/v1/embeddings", {"input": [[1, 2, 3]]}, 422, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 422, "--client-tokenizer"),
        ("/v1/rerank", {"query": "a", "documents": [{"title": "b"}]}, 422, "documents[0]"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, 422, "top_n=0"),
        ("/rerank", {"query": "a"}, 422, "neither"),
        ("/decode", {"ids": []}, 422, "ids is empty"),
        ("/nowhere", {}, 404, "/docs lists them"),
    ],
)
def test_what_is_wrong_is_said(
    server: Running, path: str, body: Any, status: int, words: str
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status
    document = answer.json()
    error = document.get("error", document.get("message"))
    assert words in (error["message"] if isinstance(error, dict) else error)


def test_errors_are_those_of_the_interface(server: Running) -> None:
    openai = server.post("/v1/embeddings", {"input": []}).json()["error"]
    assert set(openai) == {"message", "type", "param", "code"}
    assert openai["param"] == "input"
    assert set(server.post("/embed", {"inputs": []}).json()) == {"error", "error_type"}
    assert "message" in server.post("/v2/rerank", {"query": "a", "documents": []}).json()


def test_several_models_are_told_apart_by_name(
    embedding_folder: Path, model: core.EmbeddingModel
) -> None:
    with running(f"first={embedding_folder}", f"second={embedding_folder}") as server:
        for name in ("first", "second", None):
            body = {"input": "a cat", "model": name}
            answer = server.post("/v1/embeddings", body).json()
            assert answer["model"] == (name or "first")
        answer = server.post("/v1/embeddings", {"input": "a cat", "model": "third"})
        assert answer.status_code == 404
        assert "'first', 'second'" in answer.json()["error"]["message"]


def test_names_of_clients_that_insist_reach_the_only_model(server: Running) -> None:
    body = {"input": "a cat", "model": "text-embedding-3-small"}
    assert server.post("/v1/embeddings", body).json()["model"] == "tiny"


def test_two_models_of_one_name_are_refused(embedding_folder: Path) -> None:
    with (
        pytest.raises(core.OptionError, match="two models are called 'tiny'"),
        running(embedding_folder, embedding_folder),
    ):
        pass


def test_token_ids_of_a_declared_vocabulary(
    embedding_folder: Path, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    own = tokenizers.Tokenizer.from_file(str(embedding_folder / "tokenizer.json"))
    ids = own.encode("a small cat", add_special_tokens=False).ids
    with running(embedding_folder, client_tokenizer="model") as server:
        found = server.post("/embed", {"inputs": [ids, "a small cat"], "normalize": False}).json()
        expected = model.encode([own.decode(ids), "a small cat"])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with (
        pytest.raises(core.OptionError, match="no such file"),
        running(embedding_folder, client_tokenizer=str(tmp_path / "none.json")),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_every_backend_serves(exports: Exports, backend: str) -> None:
    folder = exports("bert-mean", backend)
    texts = [f"text {i} " * (1 + i % 7) for i in range(40)]
    with core.load(folder, backend=backend) as own, running(folder, backend=backend) as server:
        found = server.post("/embed", {"inputs": texts, "normalize": False}).json()
        np.testing.assert_allclose(found, own.encode(texts), atol=1e-5)


def test_the_openapi_document_describes_every_route(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        for path in operation.paths:
            entry = document["paths"][path.replace(":path", "")][operation.method.lower()]
            assert entry["summary"] == operation.summary
    text = json.dumps(document)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert references == set(document["components"]["schemas"])
    identities = re.findall(r'"operationId": "(\w+)"', text)
    assert len(identities) == len(set(identities)) > 20


def test_every_example_of_the_documentation_is_answered(server: Running) -> None:
    for operation in OPERATIONS:
        if operation.example is None:
            continue
        msgspec.convert(dict(operation.example), operation.body)
        answer = server.post(operation.paths[0], dict(operation.example))
        assert answer.status_code == 200, answer.text


def test_the_page_of_the_documentation_loads_nothing_from_elsewhere(server: Running) -> None:
    page = server.client.get("/docs").text
    assert "/v1/embeddings" in page
    assert re.findall(r"""(?:src|href)=["']?([^"' >]+)""", page) == ["openapi.json"]
    assert "://" not in page


def test_the_server_is_documented() -> None:
    page = (ROOT / "docs/server.md").read_text(encoding="utf-8")
    for operation in OPERATIONS:
        path = operation.paths[0].replace("{model:path}", "ID")
        assert f"`{path}`" in page, path
