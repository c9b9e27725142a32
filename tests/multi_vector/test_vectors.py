"""Vectors of tokens: those of sentence-transformers, whatever the layout and the backend."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import core
from core.architecture.late_interaction import QueryExpansion
from core.engine.token_pooling import pool_tokens
from core.sentence_transformers import MultiVectorEncoder
from core.tokenizer.scored_tokens import register_prefixes
from scripts.kinds_parity import differences, put_vectors
from tests.conftest import copy_model
from tests.kinds.test_recorded import recorded, vectors_of
from tests.kinds.texts import SHORT_TEXTS
from tests.multi_vector.conftest import BACKENDS
from tests.tiny_kinds import MULTI_VECTOR

Make = Callable[[str], Path]
Vectors = list[NDArray[np.float32]]

LONG = "the quick brown fox jumps over the lazy dog. " * 40


def results_of(model: core.MultiVectorEncoder) -> dict[str, NDArray[Any]]:
    """What scripts/kinds_parity.py compares, of the texts whose results are recorded."""
    results: dict[str, NDArray[Any]] = {}
    queries, documents = model.encode_query(SHORT_TEXTS), model.encode_document(SHORT_TEXTS)
    put_vectors(results, "query", queries)
    put_vectors(results, "document", documents)
    put_vectors(results, "plain", model.encode(SHORT_TEXTS))
    put_vectors(results, "pooled", model.encode_document(SHORT_TEXTS, token_pooling=2))
    results["similarity"] = model.similarity(queries, documents)
    return results


def assert_close(found: Vectors, expected: Vectors, atol: float = 1e-5) -> None:
    assert [one.shape for one in found] == [one.shape for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize("name", MULTI_VECTOR)
def test_vectors_are_those_of_the_reference(tiny_kind: Make, name: str) -> None:
    with core.load_multi_vector(tiny_kind(name), backend="torch") as model:
        assert not differences(results_of(model), recorded(name))


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_exported_vectors_are_those_of_the_reference(exported: Make, backend: str) -> None:
    """scripts/kinds_parity.py does so with every layout."""
    with core.load_multi_vector(exported("colbert"), backend=backend, export=False) as model:
        assert not differences(results_of(model), recorded("colbert"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_do_not_depend_on_the_texts_beside_them(exported: Make, backend: str) -> None:
    texts = [*SHORT_TEXTS, LONG]
    with core.load_multi_vector(exported("colbert"), backend=backend) as model:
        for task in (None, "query", "document"):
            alone = [model.encode(text, task=task) for text in texts]
            assert_close(model.encode(texts, task=task, batch_size=3), alone)
            twice = model.encode([*texts[::-1], *texts], task=task, batch_tokens=600, workers=2)
            assert_close(twice, [*alone[::-1], *alone])
            assert not any(np.shares_memory(a, b) for a, b in zip(twice, twice[::-1], strict=True))
            streamed = list(model.encode_stream(iter(texts), window=4, task=task))
            assert [len(block) for block in streamed] == [4, 3]
            assert_close([one for block in streamed for one in block], alone)


def test_forms_of_results(colbert: core.MultiVectorEncoder) -> None:
    one = colbert.encode_document("a cat")
    tokens = colbert.tokenize("passage: a cat")["input_ids"][0]
    assert one.shape == (len(tokens) - 1, 16)  # without the colon's
    assert one.dtype == np.float32
    assert one.flags.writeable
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert colbert.encode([]) == []
    assert colbert.similarity([], []).shape == (0, 0)
    (tensor,) = colbert.encode_document(["a cat"], convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), one, atol=1e-6)
    assert (colbert.dimension, colbert.query_length, colbert.document_length) == (16, 32, 200)
    assert colbert.query_expansion == QueryExpansion(32)


def test_queries_are_filled_up_and_cut(colbert: core.MultiVectorEncoder) -> None:
    assert {len(row) for row in colbert.encode_query([*SHORT_TEXTS, LONG])} == {32}
    # What fills a query up is not attended to: it changes nothing of the others.
    query, plain = (call("a cat", prompt="") for call in (colbert.encode_query, colbert.encode))
    assert 4 <= len(plain) < 32
    np.testing.assert_allclose(query[: len(plain)], plain, atol=1e-5)


def test_skipped_words_have_no_vector(colbert: core.MultiVectorEncoder) -> None:
    text = "cats. dogs."
    assert len(colbert.encode_document(text, prompt="")) < len(
        colbert.tokenize(text)["input_ids"][0]
    )
    assert_close([colbert.encode(text)], [colbert.encode_document(text, prompt="")])


def test_a_few_tokens_alone_have_vectors(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("colbert"), tmp_path / "model")
    with core.load_multi_vector(folder, backend="torch") as model:
        ids = model.tokenize("a cat and a dog")["input_ids"][0]
        whole = model.encode("a cat and a dog", prompt="")
    place = folder / "2_MultiVectorMask/config.json"
    config = {"skiplist_words": [], "keep_only_token_ids": [int(ids[1]), int(ids[-1])]}
    place.unlink()
    place.write_text(json.dumps(config))
    with core.load_multi_vector(folder, backend="torch") as model:
        found = model.encode("a cat and a dog", prompt="")
        assert_close([found], [whole[np.isin(ids, config["keep_only_token_ids"])]])
        assert len(model.encode_query("a cat")) == 32
        model.save(tmp_path / "saved")
    with core.load_multi_vector(tmp_path / "saved", backend="torch") as model:
        assert_close([model.encode("a cat and a dog", prompt="")], [found])


@pytest.mark.parametrize("strategy", ["fixed", "min"])
def test_left_padded_queries_are_filled_up(tiny_kind: Make, tmp_path: Path, strategy: str) -> None:
    """On the left where they have one length; otherwise where one that is alone is."""
    from transformers import AutoModel, AutoTokenizer

    folder = copy_model(tiny_kind("colbert-left"), tmp_path / "model")
    place = folder / "sentence_bert_config.json"
    config = json.loads(place.read_text())
    place.unlink()
    config["query_expansion"] = {"strategy": strategy, "attend": False, "length": 20}
    place.write_text(json.dumps(config))
    texts = ["what", "a cat and a dog", "the lazy dog " * 9]
    with core.load_multi_vector(folder, backend="torch") as model:
        found = model.encode_query(texts, prompt="")
        dense: Any = model.source.architecture.modules[0]
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, vectors in zip(texts, found, strict=True):
        long = {"truncation": True, "max_length": 20} if strategy == "fixed" else {}
        ids = tokenizer(text, **long)["input_ids"]
        added = [tokenizer.mask_token_id] * (20 - len(ids))
        row = [*added, *ids] if strategy == "fixed" else [*ids, *added]
        seen = [0] * len(added), [1] * len(ids)
        mask = [*seen[0], *seen[1]] if strategy == "fixed" else [*seen[1], *seen[0]]
        with torch.inference_mode():
            hidden = encoder(torch.tensor([row]), attention_mask=torch.tensor([mask]))[0][0]
        expected = hidden.numpy() @ dense.weight.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert_close([vectors], [expected])


def test_positions_of_filled_queries_are_fed(colbert: core.MultiVectorEncoder) -> None:
    from core.engine.encode import scored_batches

    options = core.EncodeOptions(task="query")
    ((_, batch),) = scored_batches(colbert, ["a cat", "what is a dog"], options)
    assert (batch.position_ids == np.arange(32)).all()
    assert batch.scoring_mask is not None
    assert batch.attention_mask.sum() < batch.scoring_mask.sum() == 64


def test_vectors_are_pooled(colbert: core.MultiVectorEncoder) -> None:
    documents = colbert.encode_document(SHORT_TEXTS)
    for given in (3, 3.0, core.TokenPooling(3)):
        found = colbert.encode_document(SHORT_TEXTS, token_pooling=given)
        assert_close(found, [pool_tokens(one, 3) for one in documents])
    pooling = core.TokenPooling(2, 0, normalize_embeddings=False, tasks=("query",))
    assert_close(colbert.encode_document(SHORT_TEXTS, token_pooling=pooling), documents)
    (query,) = colbert.encode_query(["a cat"], token_pooling=pooling)
    assert_close([query], [pool_tokens(colbert.encode_query("a cat"), 2, 0, False)])


def test_a_model_that_pools(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("colbert"), tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.multi_vector_encoder.modules.token_pooling"
    entry = {
        "idx": 4,
        "name": "4",
        "path": "4_Pool",
        "type": f"{kind}.HierarchicalTokenPooling",
    }
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps([*modules, entry]))
    (folder / "4_Pool").mkdir()
    (folder / "4_Pool/config.json").write_text(json.dumps({"pool_factor": 2.0}))
    with core.load_multi_vector(tiny_kind("colbert"), backend="torch") as plain:
        documents, queries = plain.encode_document(SHORT_TEXTS), plain.encode_query(SHORT_TEXTS)
    with core.load_multi_vector(folder, backend="torch") as model:
        pooled = model.encode_document(SHORT_TEXTS)
        assert_close(pooled, [pool_tokens(one, 2, 1, False) for one in documents])
        assert_close(model.encode_query(SHORT_TEXTS), queries)
        model.save(tmp_path / "saved")
    with core.load_multi_vector(tmp_path / "saved", backend="torch") as model:
        assert_close(model.encode_document(SHORT_TEXTS), pooled)


def test_pylate_without_a_projection(tiny_kind: Make, tmp_path: Path) -> None:
    """The transformer's own vectors, scaled."""
    folder = copy_model(tiny_kind("pylate"), tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules[:1]))
    with core.load_multi_vector(folder, backend="torch") as model:
        rows = model.encode_document(SHORT_TEXTS)
        assert model.dimension == 32
        assert [len(row) for row in rows] == recorded("pylate")["document.lengths"].tolist()
        np.testing.assert_allclose(np.linalg.norm(rows[0], axis=1), 1, atol=1e-5)


def test_vectors_of_a_model_that_does_not_normalize(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("colbert"), tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules[:3]))
    with core.load_multi_vector(folder, backend="torch") as model:
        rows = model.encode_document("a cat")
        assert (np.abs(np.linalg.norm(rows, axis=1) - 1) > 0.1).any()
        scaled = model.encode_document("a cat", normalize_embeddings=True)
    np.testing.assert_allclose(
        scaled, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6
    )


def test_lengths_are_cut_and_told(tiny_kind: Make, caplog: pytest.LogCaptureFixture) -> None:
    with core.load_multi_vector(tiny_kind("colbert-plain"), backend="torch") as model:
        assert (model.query_length, model.document_length) == (64, None)
        assert len(model.encode_query(LONG)) == 64
        assert len(model.encode_document(LONG)) > 64
        model.document_length = 20
        assert len(model.encode_document(LONG)) == 20
        assert len(model.encode(LONG)) > 64
        model.encode_document(["a cat", LONG], truncation="warn")
        assert "more tokens than the 20 that the model reads (document_length)" in caplog.text
        with pytest.raises(core.OptionError, match=r"than the 64 .* position 1 \("):
            model.encode_query(["a cat", LONG], truncation="error")
        first = model.identity
        model.query_length = 32
        assert model.identity != first
        assert len(model.encode_query(LONG)) == 32


def test_prompts_are_those_of_the_task(colbert: core.MultiVectorEncoder) -> None:
    assert colbert.prompts == {"query": "query: ", "document": "passage: "}
    (expected,) = colbert.encode(["passage: a cat"], task="document", prompt="")
    assert_close([colbert.encode_document("a cat")], [expected])
    assert_close([colbert.encode("a cat", task="document")], [expected])
    assert_close([colbert.encode("a cat", prompt_name="document")], [expected])
    plain = colbert.encode("a cat", prompt="")
    assert_close([colbert.encode("a cat")], [plain])
    assert_close([colbert.encode_document("a cat", prompt="")], [plain])


def test_marks_of_other_libraries_are_one_token(tiny_kind: Make) -> None:
    for name, mark in (("pylate", "[q] "), ("stanford", "[unused0]")):
        with core.load_multi_vector(tiny_kind(name), backend="torch") as model:
            first = model.tokenize(model.prompts["query"] + "a cat")["input_ids"][0, 1]
            assert str(model.tokenizer.backend.id_to_token(int(first))).lower() == mark
            rules = model.source.architecture.late_interaction
            assert rules is not None
            before = model.tokenizer.backend.to_str()
            register_prefixes(model.tokenizer.backend, rules)
            assert len(model.tokenizer.backend.to_str()) == len(before)


def test_similarity_is_maxsim(tiny_kind: Make) -> None:
    results = recorded("colbert-attend")
    queries, documents = vectors_of(results, "query"), vectors_of(results, "document")
    with core.load_multi_vector(tiny_kind("colbert-attend"), backend="torch") as model:
        assert model.similarity_fn_name == "meanmaxsim"
        means = model.similarity(queries, documents)
        np.testing.assert_allclose(means, results["similarity"], atol=2e-3)
        model.similarity_fn_name = "maxsim"
        lengths = results["query.lengths"][:, None]
        np.testing.assert_allclose(model.similarity(queries, documents), means * lengths, rtol=1e-4)
        pairs = model.similarity_pairwise(queries, documents)
        np.testing.assert_allclose(pairs, np.diag(means * lengths), rtol=1e-4)
    with core.load_multi_vector(
        tiny_kind("colbert-attend"), backend="torch", similarity_fn_name="maxsim"
    ) as model:
        assert model.similarity_fn_name == "maxsim"


def test_a_model_survives_pickling(tiny_kind: Make) -> None:
    with core.load_multi_vector(tiny_kind("colbert-plain"), backend="torch") as model:
        model.query_length, model.document_length = 9, 12
        model.similarity_fn_name, model.prompts = "meanmaxsim", {"query": "find: "}
        expected = [model.encode_query(LONG), model.encode_document(LONG)]
        with pickle.loads(pickle.dumps(model)) as copy:
            assert copy.similarity_fn_name == "meanmaxsim"
            assert_close([copy.encode_query(LONG), copy.encode_document(LONG)], expected)


@pytest.mark.slow
def test_a_pool_of_processes(exported: Make) -> None:
    texts = [*SHORT_TEXTS, *SHORT_TEXTS, LONG] * 3
    with core.load_multi_vector(exported("colbert"), backend="onnx") as model:
        expected = model.encode_query(texts)
        pooled = model.encode_document(texts, token_pooling=2)
        with core.ProcessPool(model, processes=2) as pool:
            assert_close(pool.encode(texts, task="query"), expected)
            found = pool.encode(texts, task="document", token_pooling=2)
            assert_close(found, pooled)
            blocks = list(pool.encode_stream(iter(texts), task="query"))
            assert_close([one for block in blocks for one in block], expected)
            dropin = MultiVectorEncoder(str(exported("colbert")), backend="onnx")
            assert_close(dropin.encode_query(texts, pool=pool, convert_to_numpy=True), expected)


def test_hooks_take_a_task(tiny_kind: Make) -> None:
    hooks = core.hooks("torch")
    source = core.load_multi_vector(tiny_kind("colbert"), backend="torch").source
    with hooks.load(source=source) as model:
        assert isinstance(model, core.MultiVectorEncoder)
        rows = hooks.encode(
            model=model, texts=["a cat"], options=core.EncodeOptions(task="query", prompt="query: ")
        )
        assert_close(rows, [model.encode_query("a cat")])


_ALONE = """
import sys
for name in ("torch", "transformers", "scipy", "sentence_transformers"):
    sys.modules[name] = None  # importing it fails
import numpy as np
import core
with core.load_multi_vector(sys.argv[1], backend=sys.argv[2]) as model:
    queries = model.encode_query(["a cat", "a dog"])
    documents = model.encode_document(["a cat", "the lazy dog sleeps"], token_pooling=2)
    np.save(sys.argv[3], model.similarity(queries, documents))
"""


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_exported_files_need_no_torch(exported: Make, tmp_path: Path, backend: str) -> None:
    path, output = exported("colbert"), tmp_path / "scores.npy"
    words = [sys.executable, "-c", _ALONE, str(path), backend, str(output)]
    subprocess.run(words, check=True)
    with core.load_multi_vector(path, backend="torch") as model:
        queries = model.encode_query(["a cat", "a dog"])
        documents = model.encode_document(["a cat", "the lazy dog sleeps"], token_pooling=2)
        np.testing.assert_allclose(np.load(output), model.similarity(queries, documents), atol=1e-4)


def test_weights_in_parts(tiny_kind: Make, tmp_path: Path) -> None:
    """Stanford's projection is read from the part that holds it."""
    from safetensors.numpy import load_file, save_file

    folder = copy_model(tiny_kind("stanford"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    last = {"linear.weight": weights.pop("linear.weight")}
    parts = {"model-00001-of-00002.safetensors": weights, "model-00002-of-00002.safetensors": last}
    for name, part in parts.items():
        save_file(part, folder / name, {"format": "pt"})
    places = {name: file for file, part in parts.items() for name in part}
    index = json.dumps({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index)
    with core.load_multi_vector(folder, backend="torch") as model:
        assert not differences(results_of(model), recorded("stanford"))
