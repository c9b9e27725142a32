"""What no multi-vector model takes: each error says what was found and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import ModelFormatError, OptionError, UnsupportedOperation
from core.operations.results import check_token_vectors
from core.sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from tests.conftest import copy_model
from tests.tiny_kinds import MULTI_VECTOR

Make = Callable[[str], Path]


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    place = folder / name
    content = {**json.loads(place.read_text()), **changes}
    place.unlink()
    place.write_text(json.dumps({n: value for n, value in content.items() if value is not None}))


@pytest.mark.parametrize("name", MULTI_VECTOR)
def test_each_kind_says_what_loads_it(tiny_kind: Make, name: str) -> None:
    path = tiny_kind(name)
    for load in (core.load, core.load_reranker):
        with pytest.raises(
            UnsupportedOperation, match=r"is a multi-vector model, not .* core\.load_multi_vector\."
        ):
            load(path, backend="torch")
    for kind in (SentenceTransformer, CrossEncoder):
        with pytest.raises(UnsupportedOperation, match=r"core\.load_multi_vector"):
            kind(str(path))


def test_others_are_no_multi_vector_models(tiny_kind: Make, tiny_model: Make) -> None:
    for path, says in (
        (tiny_model("bert-mean"), r"an embedding model, not a multi-vector .* core\.load\."),
        (tiny_kind("reranker-bert"), r"a reranker, not .* core\.load_reranker"),
        (tiny_kind("bge-m3"), r"an embedding model, not .* core\.load\."),
    ):
        with pytest.raises(UnsupportedOperation, match=says):
            core.load_multi_vector(path, backend="torch")
        with pytest.raises(UnsupportedOperation, match=says):
            MultiVectorEncoder(str(path))


def test_only_embedding_models_are_tuned(
    tiny_kind: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    path = copy_model(tiny_kind("colbert"), tmp_path / "model")
    with pytest.raises(UnsupportedOperation, match=r"a multi-vector model"):
        core.tune(path, [f"text {i}" for i in range(30)], write=False)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a", None], {}, r"Input 1 is NoneType"),
        ([("a", "b")], {}, r"Input 0 is tuple"),
        (5, {}, r"not int"),
        ("a", {"task": "search"}, r"task must be one of 'query', 'document', not 'search'"),
        ("a", {"token_pooling": 0}, r"pool_factor must be a number of 1 or more"),
        ("a", {"token_pooling": float("nan")}, r"pool_factor must be a number of 1 or more"),
        ("a", {"token_pooling": "2"}, r"token_pooling must be a core\.TokenPooling or a number"),
        ("a", {"token_pooling": core.TokenPooling(2, -1)}, r"num_protected_tokens must be"),
        ("a", {"token_pooling": core.TokenPooling(2, tasks=("x",))}, r"tasks of token_pooling"),
        ("a", {"truncate_dim": 4}, r"encode does not take 'truncate_dim'"),
        ("a", {"output_value": "token_embeddings"}, r"does not take 'output_value'"),
        ("a", {"token_polling": 2}, r"Did you mean 'token_pooling'"),
        ("a", {"prompt_name": "nope"}, r"no prompt named 'nope'"),
    ],
)
def test_inputs_and_options_are_checked(
    colbert: core.MultiVectorEncoder, texts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        colbert.encode(texts, **options)


def test_a_method_has_its_task(colbert: core.MultiVectorEncoder) -> None:
    with pytest.raises(OptionError, match="encode_query encodes each text as a query"):
        colbert.encode_query("a", task="document")
    with pytest.raises(OptionError, match="takes an iterable of texts, not one string"):
        colbert.encode_stream("a text")
    for value in ("cosine", None, 5):
        with pytest.raises(OptionError, match="must be one of maxsim, meanmaxsim"):
            colbert.similarity_fn_name = value  # type: ignore[assignment]
    with pytest.raises(OptionError, match=r"of 16 and of 3 dimensions"):
        colbert.similarity(colbert.encode_query(["a"]), [[[0.0, 1.0, 0.0]]])
    with pytest.raises(OptionError, match=r"fills every query up to exactly 32 tokens"):
        colbert.query_length = 40
    with pytest.raises(OptionError, match="document_length must be 1 or more"):
        colbert.document_length = 0


def test_embedding_models_have_no_task(tiny_model: Make) -> None:
    with core.load(tiny_model("bert-mean"), backend="torch") as model:
        for option in ({"task": "query"}, {"token_pooling": 2}):
            with pytest.raises(OptionError, match="encode does not take"):
                model.encode(["a"], **option)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sentence_bert_config.json", {"query_length": 8}, r"query_length is 8 .* up to 32"),
        ("sentence_bert_config.json", {"query_length": "8"}, r"query_length is '8'"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "all"}}, r"fixed, min"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min"}}, r"no length"),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 9, "token": "[NOPE]"}},
            r"fills queries up with '\[NOPE\]', which is not in the tokenizer's vocabulary",
        ),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 10**9}},
            r"filled up to 1000000000 tokens .* has 512 positions",
        ),
        ("sentence_bert_config.json", {"transformer_task": "retrieval"}, r"built for 'retrieval'"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {}, "message": {}}},
            r"chat template",
        ),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, r"prompts in .* must map"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, r"prompts in .* must map"),
        ("2_MultiVectorMask/config.json", {"skiplist_words": "abc"}, r"must be a list of tokens"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": [3]}, r"skiplist_tasks is \[3\]"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": ["a"]}, r"must list token ids"),
        (
            "1_Dense/config.json",
            {"module_input_name": "sentence_embedding"},
            r"takes 'sentence_embedding', which nothing makes",
        ),
        ("1_Dense/config.json", {"in_features": 64}, r"linear\.weight .* asks for \(16, 64\)"),
    ],
)
def test_damaged_configuration_is_named(
    tiny_kind: Make, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    folder = copy_model(tiny_kind("colbert"), tmp_path / "model")
    rewrite(folder, name, **changes)
    with pytest.raises((ModelFormatError, UnsupportedOperation), match=message):
        core.load_multi_vector(folder, backend="torch")


def test_queries_longer_than_the_positions_are_refused(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("stanford"), tmp_path / "stanford")
    rewrite(folder, "artifact.metadata", query_maxlen=513)
    with pytest.raises(ModelFormatError, match=r"filled up to 513 tokens .* has 512 positions"):
        core.load_multi_vector(folder, backend="torch")


def test_modules_that_are_not_run_are_named(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("colbert"), tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    base = "sentence_transformers.multi_vector_encoder.modules.token_pooling"
    for kind, path, message in (
        ("somewhere.else.Module", "4_Module", r"custom modules, with or without"),
        (f"{base}.LambdaTokenPooling", "4_Lambda", r"a module of type LambdaTokenPooling"),
    ):
        entry = {"idx": 4, "name": "4", "path": path, "type": kind}
        (folder / "modules.json").unlink()
        (folder / "modules.json").write_text(json.dumps([*modules, entry]))
        with pytest.raises(UnsupportedOperation, match=message):
            core.load_multi_vector(folder, backend="torch")


def test_a_model_without_a_trained_projection(tiny_kind: Make, tmp_path: Path) -> None:
    folder = copy_model(tiny_kind("pylate-1"), tmp_path / "pylate")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(UnsupportedOperation, match=r"no Dense module .* random numbers"):
        core.load_multi_vector(folder, backend="torch")
    folder = copy_model(tiny_kind("stanford"), tmp_path / "stanford")
    rewrite(folder, "artifact.metadata", dim=24)
    with pytest.raises(ModelFormatError, match=r"linear\.weight .* asks for \(24, 32\)"):
        core.load_multi_vector(folder, backend="torch")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"the weights that hold 'linear\.weight'"):
        core.load_multi_vector(folder, backend="torch")


def test_what_a_hook_returns_is_checked() -> None:
    good = [np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)]
    assert check_token_vectors(good, 2, 4) is None
    frozen = np.ones((2, 4), np.float32)
    frozen.flags.writeable = False
    for result, dimension, says in (
        (good[:1], 4, "1 items, not a list of 2"),
        ([good[0], np.ones((1, 5), np.float32)], 4, "vectors of 5 dimensions; the model has 4"),
        ([good[0], np.ones((1, 5), np.float32)], None, "4, 5 dimensions"),
        ([good[0], np.ones(4, np.float32)], 4, "position 1"),
        ([good[0], frozen], 4, "read-only"),
        ([good[0], good[1] * np.nan], 4, "NaN or infinity for the text at position 1"),
    ):
        assert says in (check_token_vectors(result, 2, dimension) or "")
