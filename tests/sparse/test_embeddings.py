"""Sparse embeddings: those of sentence-transformers, whatever the layout and the backend."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core
from core import OptionError, SparseEmbeddings
from tests.kinds.test_recorded import recorded, rows_of
from tests.kinds.texts import SHORT_TEXTS, TEXTS
from tests.sparse.conftest import BACKENDS, assert_close
from tests.tiny_kinds import SPARSE

Make = Callable[[str], Path]

#: One of each form; the others are compared where there is time.
_QUICK = ("splade-old-sum", "csr-normalized", "inference-free")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SPARSE],
)
def test_they_are_those_of_sentence_transformers(sparse: Make, name: str, backend: str) -> None:
    expected = recorded(name)
    with core.load_sparse(sparse(name), backend=backend, export=False) as model:
        queries, documents = model.encode_query(SHORT_TEXTS), model.encode_document(SHORT_TEXTS)
        few = model.encode_document(SHORT_TEXTS, max_active_dims=8)
        found = model.similarity(queries, documents)
    assert_close(queries, rows_of(expected, "query"))
    assert_close(documents, rows_of(expected, "document"))
    assert_close(few, rows_of(expected, "few"))
    np.testing.assert_allclose(found, expected["similarity"], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_texts_and_odd_ones(sparse: Make, backend: str) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    path = sparse("splade-log1p")
    tokenizer, module = AutoTokenizer.from_pretrained(path), None
    module = AutoModelForMaskedLM.from_pretrained(path).eval()
    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            logits = module(**tokenizer([text], truncation=True, return_tensors="pt")).logits
            rows.append(torch.log1p(torch.log1p(logits.relu().amax(dim=1)))[0].numpy())
    with core.load_sparse(path, backend=backend, export=False) as model:
        model.max_active_dims = None
        assert_close(model.encode(TEXTS), np.stack(rows))


def test_a_text_alone_and_none_at_all(sparse: Make) -> None:
    with core.load_sparse(sparse("splade"), backend="onnx") as model:
        one = model.encode(SHORT_TEXTS[0])
        assert one.shape == (1, model.dimension)
        assert model.encode([]).shape == (0, model.dimension)
        twice = model.encode([SHORT_TEXTS[0], "other", SHORT_TEXTS[0]])
        assert twice[0] == twice[2]
        assert_close(one, twice[0])
        tensor = model.encode(SHORT_TEXTS, convert_to_tensor=True)
        assert tensor.is_sparse
        assert torch.equal(
            tensor.to_dense(), torch.from_numpy(model.encode(SHORT_TEXTS).to_dense())
        )


def test_words_and_their_weights(sparse: Make) -> None:
    with core.load_sparse(sparse("splade"), backend="onnx") as model:
        rows = model.encode(SHORT_TEXTS[:2])
        words = model.decode(rows, top_k=3)
        ranked = rows.ranked(3)
    assert [len(row) for row in words] == [3, 3]
    assert [weight for _, weight in words[0]] == [weight for _, weight in ranked[0]]
    vocabulary = json.loads((sparse("splade") / "tokenizer.json").read_text())["model"]["vocab"]
    assert [vocabulary[word] for word, _ in words[1]] == [number for number, _ in ranked[1]]


def test_queries_are_looked_up(sparse: Make) -> None:
    path = sparse("inference-free")
    with core.load_sparse(path, backend="onnx", export=False) as model:
        assert model.tasks == ("document", "query")
        query = model.encode_query("the the query")
        assert query == model.encode("the query", task="query")
        assert model.encode(SHORT_TEXTS) == model.encode_document(SHORT_TEXTS)
        assert model.encode(SHORT_TEXTS[0]) != model.encode_query(SHORT_TEXTS[0])
        assert len(model.encode_query("").values) == 0
        assert len(model.encode_query(SHORT_TEXTS[1], max_active_dims=2).values) == 2
        long = "word " * 3_000
        with pytest.raises(OptionError, match="more tokens than"):
            model.encode_query([long], truncation="error")
        assert model.encode_query([long]) == model.encode_query(["word"])


def test_weights_of_words_in_a_json_file(writable: Make) -> None:
    path = writable("inference-free")
    folder = path / "query_0_SparseStaticEmbedding"
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(json.dumps({"frozen": True, "path": "idf.json"}))
    (folder / "idf.json").write_text(json.dumps({"the": 0.5, "query": 2.0}))
    with core.load_sparse(path, backend="onnx") as model:
        assert model.decode(model.encode_query("the query of"))[0] == [("query", 2.0), ("the", 0.5)]
    (folder / "idf.json").write_text(json.dumps({"the": "much"}))
    with pytest.raises(core.ModelFormatError, match="'much' for 'the'"):
        core.load_sparse(path, backend="onnx")


def test_streams_pools_and_pickles(sparse: Make) -> None:
    with core.load_sparse(sparse("splade"), backend="onnx", max_active_dims=5) as model:
        expected = model.encode(SHORT_TEXTS)
        blocks = list(model.encode_stream(iter(SHORT_TEXTS), window=4))
        assert [len(block) for block in blocks] == [4, 2]
        assert_close(SparseEmbeddings.concatenate(blocks), expected)
        with pickle.loads(pickle.dumps(model)) as copy:
            assert copy.max_active_dims == 5
            assert_close(copy.encode(SHORT_TEXTS), expected)


@pytest.mark.slow
def test_a_pool_of_processes(sparse: Make) -> None:
    with core.load_sparse(sparse("inference-free"), backend="onnx") as model:
        texts = [*SHORT_TEXTS, *SHORT_TEXTS]
        with core.ProcessPool(model, processes=2) as pool:
            assert_close(pool.encode(texts), model.encode(texts))
            assert pool.encode(texts, task="query") == model.encode_query(texts)


def test_prompts_go_in_front(sparse: Make) -> None:
    with core.load_sparse(sparse("splade-log1p"), backend="onnx") as model:
        assert model.prompts["query"] == "query: "
        assert_close(model.encode_query(["a text"]), model.encode(["query: a text"]))
        model.prompts["passage"] = "passage: "
        assert_close(model.encode_document(["a text"]), model.encode(["passage: a text"]))
        assert_close(model.encode_query(["a text"], prompt=""), model.encode(["a text"]))


@pytest.mark.parametrize("backend", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_graphs_of_the_reference_run(sparse: Make, tmp_path: Path, backend: str) -> None:
    """Its exporter leaves the logits of every token to what runs the graph."""
    path = tmp_path / "model"
    shutil.copytree(sparse("splade"), path)
    for folder in ("onnx", "openvino"):
        shutil.rmtree(path / folder)
    _export_logits(path)
    with core.load_sparse(path, backend=backend, export=False) as model:
        assert model.runtime.batch_tokens is not None
        assert_close(model.encode(SHORT_TEXTS), rows_of(recorded("splade"), "document"))


def _export_logits(path: Path) -> None:
    """onnx/model.onnx as Optimum writes it for fill-mask, and the same for OpenVINO."""
    import openvino
    from transformers import AutoModelForMaskedLM

    names = ["input_ids", "attention_mask", "token_type_ids"]
    module = AutoModelForMaskedLM.from_pretrained(path, attn_implementation="eager").eval()
    module.config.return_dict = False
    example = tuple(torch.ones((2, 6), dtype=torch.int64) for _ in names)
    axes = {0: "batch_size", 1: "sequence_length"}
    (path / "onnx").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            module,
            example,
            str(path / "onnx/model.onnx"),
            dynamo=False,
            input_names=names,
            output_names=["logits"],
            dynamic_axes=dict.fromkeys([*names, "logits"], axes),
            opset_version=17,
        )
    graph = openvino.convert_model(path / "onnx/model.onnx")
    openvino.save_model(graph, path / "openvino/openvino_model.xml", compress_to_fp16=False)


def test_a_saved_model_is_the_same_and_says_so(writable: Make, tmp_path: Path) -> None:
    for name in ("splade-bare-bert", "csr", "inference-free"):
        with core.load_sparse(writable(name), backend="torch", max_active_dims=7) as model:
            model.prompts["query"] = "find: "
            model.similarity_fn_name = "cosine"
            model.max_seq_length = 32
            queries, documents = model.encode_query(TEXTS[-6:]), model.encode_document(TEXTS[-6:])
            saved = model.save(tmp_path / f"saved-{name}")
        assert "core.load_sparse" in (saved / "README.md").read_text()
        settings = json.loads((saved / "config_sentence_transformers.json").read_text())
        assert settings["model_type"] == "SparseEncoder"
        assert settings["max_active_dims"] == 7
        for backend in ("torch", "onnx"):
            with core.load_sparse(saved, backend=backend, export=False) as again:
                assert (again.max_active_dims, again.max_seq_length) == (7, 32)
                assert again.similarity_fn_name == "cosine"
                assert_close(again.encode_query(TEXTS[-6:]), queries)
                assert_close(again.encode_document(TEXTS[-6:]), documents)


def test_logits_never_stand_in_a_graph_at_once(sparse: Make) -> None:
    """An export gives weights of words, and computes them a part of the vocabulary at a time."""
    import onnx

    folder = sparse("splade")
    graph = onnx.load(folder / "onnx/model.onnx").graph
    (output,) = graph.output
    shape = [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
    with core.load_sparse(folder, backend="torch") as model:
        assert (output.name, shape) == ("sentence_embedding", ["batch", model.dimension])
    record = json.loads((folder / "onnx/model.onnx.json").read_text())
    assert record["kind"] == "sparse"
    assert record["verification"]["min_overlap"] > 0.99
    assert record["verification"]["max_value_difference"] < 1e-4


@pytest.mark.parametrize("words", [50, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["splade", "splade-old-sum"])
def test_parts_of_a_vocabulary_make_the_whole(
    sparse: Make, monkeypatch: pytest.MonkeyPatch, name: str, words: int
) -> None:
    from torch_backend import pooled_logits

    monkeypatch.setattr(pooled_logits, "PART_WORDS", words)
    with core.load_sparse(sparse(name), backend="torch", device="cpu") as model:
        early = pooled_logits.pooled_logits(model.runtime.module)
        assert early is not None
        assert len(early.parts) == -(-model.dimension // words)
        assert_close(model.encode(SHORT_TEXTS), rows_of(recorded(name), "document"))


class _Adding(torch.nn.Module):
    """A head that adds to what its output layer gives."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module, self.config = module, module.config

    def get_output_embeddings(self) -> Any:
        return self.module.get_output_embeddings()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        output = self.module(input_ids=input_ids, attention_mask=attention_mask)
        output.logits = 2 * output.logits + 1
        return output


def test_a_head_that_adds_to_its_logits_is_pooled_afterwards(sparse: Make) -> None:
    from transformers import AutoModelForMaskedLM

    from torch_backend.pooled_logits import pool_early, pooled_logits

    path = sparse("splade")
    architecture = core.load_sparse(path, backend="torch").source.architecture
    module = AutoModelForMaskedLM.from_pretrained(path).eval()
    pool_early(module, architecture)
    assert pooled_logits(module) is not None
    other = _Adding(AutoModelForMaskedLM.from_pretrained(path)).eval()
    pool_early(other, architecture)
    assert pooled_logits(other) is None
