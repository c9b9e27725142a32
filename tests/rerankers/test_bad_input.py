"""What no reranker takes: each error says what was found and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import CoreError, OptionError, UnsupportedOperation
from tests.conftest import copy_model
from tests.rerankers.conftest import registered
from tests.test_bad_input import Frame

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(reranker: Make) -> Any:
    with core.load_reranker(reranker("reranker-bert"), backend="onnx") as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("a text", r"not one string.*\[\(query, document\), \.\.\.\]"),
        ([("a", "b"), "c d"], r"Pair 1 is the string 'c d'"),
        ([("a", "b"), ("a", "b", "c")], r"Pair 1 has 3 texts, not two.*rank"),
        ([("a",)], r"Pair 0 has 1 text, not two"),
        (["a", "b", "c"], r"Pair 0 has 3 texts, not two"),
        ([("a", "b"), ("a", None)], r"second text of pair 1 is NoneType None"),
        ([(1, "b")], r"first text of pair 0 is int 1"),
        ([("a", "b"), {"query": "a"}], r"Pair 1 is dict"),
        ([("a", "\ud800")], r"second text of pair 0 has the lone surrogate"),
        ({"a": "b"}, r"not dict"),
        (b"ab", r"not bytes"),
        (5, r"not int"),
        (None, r"not NoneType"),
        (np.zeros((2, 3)), r"Pair 0 has 3 texts"),
    ],
)
def test_what_is_no_pair_is_named(model: Any, pairs: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.predict(pairs)


def test_a_table_of_pairs_says_how_to_pass_two_columns(model: Any) -> None:
    advice = r"Pass two of them: list\(zip\(df\['q'\]\.tolist\(\), df\['d'\]\.tolist\(\)\)\)\."
    with pytest.raises(OptionError, match=advice):
        model.predict(Frame("q", "d", "label"))
    with pytest.raises(OptionError, match=r"the columns 'q'\. Pass two of them\.$"):
        model.predict(Frame("q"))


def test_positions_of_a_stream_count_on(model: Any) -> None:
    pairs = [("a", "b")] * 5 + [("a", 1)]
    with pytest.raises(OptionError, match="second text of pair 5"):
        list(model.predict_stream(iter(pairs), window=2))
    with pytest.raises(OptionError, match="predict_stream takes an iterable of pairs"):
        model.predict_stream("a text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_fn": "Sigmoidd"}, r"Did you mean 'Sigmoid'"),
        ({"activation_fn": 5}, r"must be a function of the scores"),
        ({"activation_fn": lambda scores: scores[:1]}, r"must keep the pairs apart"),
        ({"activation_fn": lambda scores: 1.0}, r"shape \[\] .* must keep the pairs apart"),
        ({"activation_fn": lambda scores: None}, r"shape \[\] .* must keep the pairs apart"),
        ({"activation_fn": lambda scores: ["high"]}, r"gives list, which is no array of numbers"),
        ({"precision": "int8"}, r"predict does not take 'precision'"),
        ({"apply_softmax": "yes"}, r"apply_softmax must be True or False"),
        ({"batchsize": 3}, r"Did you mean 'batch_size'"),
    ],
)
def test_options_are_checked(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.predict([("a", "b"), ("c", "d")], **options)


def test_embedding_models_take_no_activation(tiny_model: Callable[[str], Path]) -> None:
    with (
        core.load(tiny_model("bert-cls"), backend="torch") as embedding,
        pytest.raises(OptionError, match="encode does not take 'activation_fn'"),
    ):
        embedding.encode(["a"], activation_fn="Sigmoid")


@pytest.mark.parametrize(
    ("query", "documents", "options", "message"),
    [
        (["a", "b"], ["c"], {}, r"rank takes one query, a string, not list"),
        ("a", "b", {}, r"rank takes a sequence of documents, not one string"),
        ("a", None, {}, r"rank takes a sequence of documents, not NoneType"),
        ("a", ["b", 3], {}, r"Input 1 is int 3"),
        ("a", ["b"], {"top_k": 0}, r"top_k must be 1 or more"),
        ("a", ["b"], {"return_documents": 1}, r"return_documents must be True or False"),
    ],
)
def test_ranking_is_checked(
    model: Any, query: Any, documents: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        model.rank(query, documents, **options)


def test_several_labels_are_not_ranked(reranker: Make) -> None:
    with (
        core.load_reranker(reranker("reranker-labels"), backend="onnx") as several,
        pytest.raises(OptionError, match=r"3 for a pair \(contradiction, .*Call predict"),
    ):
        several.rank("a", ["b"])


def test_each_kind_says_what_loads_it(reranker: Make, tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedOperation, match=r"a reranker.*with core\.load_reranker"):
        core.load(reranker("reranker-bert"), backend="torch")
    with pytest.raises(UnsupportedOperation, match=r"an embedding model.*with core\.load\."):
        core.load_reranker(tiny_model("bert-cls"), backend="torch")


def test_a_chat_template_without_jinja2(reranker: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `core[onnx]` alone is installed; other rerankers do without."""
    folder, other = reranker("reranker-qwen3-chat"), reranker("reranker-bert")
    for name in [n for n in sys.modules if n.partition(".")[0] == "jinja2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UnsupportedOperation, match=r"pip install core\[chat\]"):
        core.load_reranker(folder, backend="onnx")
    with core.load_reranker(other, backend="onnx") as loaded:
        assert loaded.predict([("a", "b")]).shape == (1,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe{{ messages }}", "is not a text in UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b" " * 4_000_001, "has 4,000,001 bytes"),
        (b"{{ " + b"(" * 3000 + b"1" + b")" * 3000 + b" }}", "is not a Jinja template"),
    ],
    ids=["bytes", "pointer", "huge", "nested"],
)
def test_a_chat_template_that_is_none(
    reranker: Make, tmp_path: Path, content: bytes, says: str
) -> None:
    folder = copy_model(reranker("reranker-qwen3-chat"), tmp_path / "model")
    (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(core.ModelFormatError, match=rf"chat.template.* {says}"):
        core.load_reranker(folder, backend="onnx")


def test_a_backend_that_runs_no_rerankers_says_so(reranker: Make) -> None:
    class Plain:
        @core.hookimpl
        def load(self, source: Any, options: Any) -> Any:
            raise AssertionError("not reached")

        @core.hookimpl
        def encode(self, model: Any, texts: Any, options: Any) -> Any:
            raise AssertionError("not reached")

    with (
        registered("plain", Plain()),
        pytest.raises(UnsupportedOperation, match=r"plain backend runs .* embedding only.*Use "),
    ):
        core.load_reranker(reranker("reranker-bert"), backend="plain")


def test_kinds_must_be_known() -> None:
    class Odd:
        KINDS = ("reranker", "oracle")

        @core.hookimpl
        def load(self, source: Any, options: Any) -> Any: ...

        @core.hookimpl
        def encode(self, model: Any, texts: Any, options: Any) -> Any: ...

    with registered("odd", Odd()), pytest.raises(CoreError, match="KINDS must be some of"):
        core.hooks("odd")


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_labels_without_end_are_refused(reranker: Make, tmp_path: Path, backend: str) -> None:
    folder = copy_model(reranker("reranker-bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.pop("id2label", None)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "num_labels": 10**9}))
    with pytest.raises(core.ModelFormatError, match=r"num_labels in config\.json is 1000000000"):
        core.load_reranker(folder, backend=backend)
