"""What no sparse encoder takes: each error says what was found and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import ModelFormatError, OptionError, UnsupportedOperation

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(sparse: Make) -> Iterator[core.SparseEncoder]:
    with core.load_sparse(sparse("inference-free"), backend="onnx") as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None], "Input 1 is NoneType"),
        ([("a", "b")], "Input 0 is tuple"),
        (5, "not int"),
        (None, "not NoneType"),
        (b"ab", "bytes"),
        (["a\ud800"], "lone surrogate"),
    ],
)
def test_what_is_no_text_is_named(model: Any, texts: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.encode(texts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_active_dims": 0}, "max_active_dims must be 1 or more"),
        ({"max_active_dims": "8"}, "max_active_dims must be a positive integer"),
        ({"task": "search"}, "task must be one of 'query', 'document'"),
        ({"normalize_embeddings": True}, "does not take 'normalize_embeddings'"),
        ({"precision": "int8"}, "does not take 'precision'"),
        ({"max_activ_dims": 3}, "Did you mean 'max_active_dims'"),
    ],
)
def test_options_are_checked(model: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.encode(["a"], **given)


def test_embeddings_of_something_else(model: Any, sparse: Make) -> None:
    rows = model.encode(["a text"])
    with pytest.raises(OptionError, match=r"a must be core\.SparseEmbeddings, not ndarray.*from_"):
        model.similarity(np.zeros((1, 3)), rows)
    with pytest.raises(OptionError, match="decode takes"):
        model.decode([1, 2])
    with pytest.raises(OptionError, match="embeddings of 3 dimensions, and the model's have"):
        model.decode(core.SparseEmbeddings.from_dense([[1, 0, 2]]))
    with pytest.raises(OptionError, match="must be one of cosine, dot"):
        model.similarity_fn_name = "maxsim"
    with core.load_sparse(sparse("csr"), backend="onnx") as other:
        found = other.encode(["a text"])
        with pytest.raises(UnsupportedOperation, match="are not words: a sparse autoencoder"):
            other.decode(found)


def test_other_kinds_say_which_function_loads_them(
    sparse: Make, tiny_kind: Make, tiny_model: Make
) -> None:
    for name in ("splade", "csr", "inference-free"):
        with pytest.raises(UnsupportedOperation, match=r"is a sparse encoder.* core\.load_sparse"):
            core.load(sparse(name), backend="onnx")
        with pytest.raises(UnsupportedOperation, match=r"is a sparse encoder.* core\.load_sparse"):
            core.load_reranker(sparse(name), backend="onnx")
    with pytest.raises(UnsupportedOperation, match=r"is a reranker.* core\.load_reranker"):
        core.load_sparse(tiny_kind("reranker-bert"), backend="torch")
    with pytest.raises(
        UnsupportedOperation, match=r"is an embedding model.* core\.load\..*SpladePooling.*training"
    ):
        core.load_sparse(tiny_model("bert-mean"), backend="torch")


def test_a_backend_without_the_kind_sends_to_one_that_has_it(sparse: Make) -> None:
    from tests.rerankers.conftest import registered

    class Plain:
        @core.hookimpl
        def load(self, source: Any, options: Any) -> Any:
            raise AssertionError("it is not asked")

        @core.hookimpl
        def encode(self, model: Any, texts: Any, options: Any) -> Any:
            raise AssertionError("it is not asked")

    with (
        registered("plain", Plain()),
        pytest.raises(UnsupportedOperation, match=r"core\.load_sparse\(\.\.\., backend='\w+'\)"),
    ):
        core.load_sparse(sparse("splade"), backend="plain")


def _json(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "splade", "1_SpladePooling/config.json", lambda c: {**c, "pooling_strategy": "mean"},
            "pooling_strategy is 'mean'; known are max, sum",
        ),
        (
            "splade", "1_SpladePooling/config.json", lambda c: {**c, "activation_function": "tanh"},
            "activation_function is 'tanh'; known are relu, log1p_relu",
        ),
        ("splade", "modules.json", lambda m: m[:1], "neither a SpladePooling nor a SparseAuto"),
        (
            "splade", "sentence_bert_config.json",
            lambda c: {**c, "transformer_task": "feature-extraction"},
            "builds the transformer for 'feature-extraction'",
        ),
        (
            "splade", "config_sentence_transformers.json", lambda c: {**c, "max_active_dims": -3},
            "max_active_dims is -3",
        ),
        (
            "csr", "2_SparseAutoEncoder/config.json", lambda c: {**c, "input_dim": 8},
            "its configuration asks for",
        ),
        ("csr", "modules.json", lambda m: [m[0], m[2]], "come last, after a Pooling"),
        (
            "inference-free", "router_config.json", lambda c: {**c, "structure": {"query": []}},
            "must map folders to classes",
        ),
        (
            "inference-free", "router_config.json",
            lambda c: {**c, "structure": {"query": c["structure"]["query"]}},
            "no route of its Router leads to a transformer",
        ),
        (
            "inference-free", "router_config.json",
            lambda c: {**c, "types": {**c["types"], "../outside": "sentence_transformers.x.Y"}},
            "outside",
        ),
        (
            "inference-free", "router_config.json",
            lambda c: {**c, "parameters": {"route_mappings": {"query": "query"}}},
            "keys are pairs of a task and a modality",
        ),
        (
            "inference-free", "router_config.json",
            lambda c: {**c, "parameters": {"default_route": "passage"}},
            "name the route 'passage'",
        ),
    ],
)  # fmt: skip
def test_files_that_are_damaged(
    tiny_kind: Make, tmp_path: Path, name: str, file: str, change: Any, message: str
) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_kind(name), path)
    _json(path / file, change)
    with pytest.raises((ModelFormatError, UnsupportedOperation), match=message):
        core.load_sparse(path, backend="torch")


def test_a_router_can_be_asked_for_a_route_only(tiny_kind: Make, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_kind("inference-free"), path)
    parameters = {"default_route": None, "allow_empty_key": False}
    _json(path / "router_config.json", lambda c: {**c, "parameters": parameters})
    with core.load_sparse(path, backend="torch") as model:
        with pytest.raises(OptionError, match="call encode_query or encode_document"):
            model.encode("a")
        assert len(model.encode_query("the")) == 1
    mapped = {"route_mappings": {"('query', None)": "document", "(None, 'text')": "query"}}
    _json(path / "router_config.json", lambda c: {**c, "parameters": mapped})
    with core.load_sparse(path, backend="torch") as model:
        assert model.encode("a text") == model.encode_document("a text")
        assert model.encode("a text") != model.encode_query("a text")


def test_a_graph_without_the_head(tiny_kind: Make, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_kind("splade-bare-bert"), path)
    core.export(path, backend="onnx")  # of the embedding model that its files are as well
    with pytest.raises(ModelFormatError, match="exported without the masked language"):
        core.load_sparse(path, backend="onnx", export=False)
