"""The drop-in `CrossEncoder`: parameters, older names and results of sentence-transformers 6.2."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import core
from core import OptionError, UnsupportedOperation
from core.sentence_transformers import (
    CrossEncoder,
    MultiVectorEncoder,
    SparseEncoder,
    export_dynamic_quantized_onnx_model,
)
from tests.rerankers.conftest import PAIRS

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(reranker: Make) -> Iterator[CrossEncoder]:
    loaded = CrossEncoder(str(reranker("reranker-bert")), backend="onnx")
    yield loaded
    loaded.reranker.close()


def test_parameters_stand_in_the_reference_s_order_with_its_defaults() -> None:
    predict = [
        ("inputs", None), ("prompt_name", None), ("prompt", None), ("batch_size", 32),
        ("show_progress_bar", None), ("activation_fn", None), ("apply_softmax", False),
        ("convert_to_numpy", True), ("convert_to_tensor", False), ("device", None),
        ("pool", None), ("chunk_size", None),
    ]  # fmt: skip
    rank = [
        ("top_k", None), ("return_documents", False), ("prompt_name", None), ("prompt", None),
        ("batch_size", 32), ("show_progress_bar", None), ("activation_fn", None),
        ("device", None), ("pool", None), ("chunk_size", None),
    ]  # fmt: skip
    for method, expected, first in (
        (CrossEncoder.predict, predict, 1),
        (CrossEncoder.rank, rank, 3),
    ):
        parameters = list(inspect.signature(method).parameters.values())[first:]
        positional = [(p.name, p.default) for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert positional == expected
    names = set(inspect.signature(CrossEncoder.__init__).parameters)
    assert {
        "model_name_or_path", "device", "prompts", "default_prompt_name", "cache_folder",
        "trust_remote_code", "revision", "local_files_only", "token", "model_kwargs",
        "processor_kwargs", "config_kwargs", "backend", "num_labels", "max_length", "activation_fn",
    } <= names  # fmt: skip


def test_scores_come_in_the_reference_s_forms(model: CrossEncoder, reranker: Make) -> None:
    scores = model.predict(PAIRS)
    assert isinstance(scores, np.ndarray)
    assert (scores.shape, scores.dtype) == ((len(PAIRS),), np.float32)
    tensor = model.predict(PAIRS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.tolist() == scores.tolist()
    rows = model.predict(PAIRS, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert all(isinstance(row, torch.Tensor) for row in rows)
    assert model.predict(PAIRS[0]) == pytest.approx(scores[0], abs=1e-6)
    assert model.predict(list(PAIRS[0]), convert_to_tensor=True).ndim == 0
    several = CrossEncoder(str(reranker("reranker-labels")), backend="onnx", num_labels=3)
    assert several.num_labels == 3
    shares = several.predict(PAIRS, apply_softmax=True)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    several.reranker.close()


def test_older_positions_are_understood(reranker: Make) -> None:
    name, make = str(reranker("reranker-bert")), cast(Any, CrossEncoder)
    old = make(name, 1, 24, torch.nn.Identity(), "cpu")
    new = CrossEncoder(
        name, num_labels=1, max_length=24, activation_fn=torch.nn.Identity(), device="cpu"
    )
    assert old.max_length == 24
    assert old.predict(PAIRS).tolist() == new.predict(PAIRS).tolist()
    with pytest.raises(ValueError, match="max_length is given twice"):
        make(name, 1, 24, max_length=12)
    with pytest.raises(ValueError, match="num_labels, max_length, activation_fn, device may"):
        make(name, 1, 24, None, "cpu", {}, {})
    with pytest.raises(ValueError, match="num_labels=3"):
        make(name, 3)


def test_older_names_are_understood(reranker: Make) -> None:
    old = CrossEncoder(
        model_name=str(reranker("reranker-bert")), max_length=24, automodel_args={},
        tokenizer_args={}, config_args={}, default_activation_function=torch.nn.Identity(),
    )  # fmt: skip
    assert old.max_length == old.max_seq_length == 24
    assert old.default_activation_function.name.endswith("Identity")
    raw = old.predict(sentences=PAIRS, num_workers=2)
    halved = old.predict(PAIRS, activation_fct=lambda scores: scores / 2)
    np.testing.assert_allclose(halved, raw / 2)
    new = CrossEncoder(
        str(reranker("reranker-bert")),
        processor_kwargs={"model_max_length": 24},
        activation_fn=torch.nn.Identity(),
    )
    np.testing.assert_array_equal(new.predict(PAIRS), raw)
    for each in (old, new):
        each.reranker.close()


def test_ranking_is_the_reference_s(model: CrossEncoder) -> None:
    documents = [text for _, text in PAIRS]
    scores = model.predict([(PAIRS[0][0], text) for text in documents])
    ranked = model.rank(PAIRS[0][0], documents, 2, True)
    best = np.argsort(-scores, kind="stable")[:2].tolist()
    assert [entry["corpus_id"] for entry in ranked] == best
    assert [entry["text"] for entry in ranked] == [documents[i] for i in best]
    assert ranked == model.rank(PAIRS[0][0], documents, top_k=2, return_documents=True)


def test_files_of_a_cross_encoder(model: CrossEncoder, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "saved")
    export_dynamic_quantized_onnx_model(model, "avx2", str(tmp_path / "saved"))
    again = CrossEncoder(
        str(tmp_path / "saved"),
        backend="onnx",
        model_kwargs={"file_name": "onnx/model_quint8_avx2.onnx"},
    )
    np.testing.assert_allclose(again.predict(PAIRS), model.predict(PAIRS), atol=0.1)
    again.reranker.close()


@pytest.mark.slow
def test_ranking_in_other_processes(model: CrossEncoder) -> None:
    query, documents = PAIRS[0][0], [document for _, document in PAIRS]
    alone = model.rank(query, documents, top_k=2)
    assert model.rank(query, documents, top_k=2, device="cpu") == alone
    pool = model.start_multi_process_pool(["cpu"])
    try:
        spread = model.rank(query, documents, top_k=2, return_documents=True, pool=pool)
    finally:
        model.stop_multi_process_pool(pool)
    assert [entry["corpus_id"] for entry in spread] == [entry["corpus_id"] for entry in alone]
    assert [entry["text"] for entry in spread] == [documents[e["corpus_id"]] for e in alone]
    for one, other in zip(spread, alone, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_the_tokenizer_and_the_configuration_are_transformers_own(model: CrossEncoder) -> None:
    query, document = PAIRS[0]
    ids = model.tokenizer(query, document)["input_ids"]
    assert ids == model.reranker.tokenize([PAIRS[0]])["input_ids"][0].tolist()
    assert model.processor.model_max_length == model.max_seq_length
    assert model.config.architectures == ["BertForSequenceClassification"]
    assert model.model is model.transformers_model is None  # a graph runs, not a module
    with pytest.raises(UnsupportedOperation, match="cannot be replaced"):
        model.tokenizer = None


def test_prompts_are_set(reranker: Make) -> None:
    model = CrossEncoder(str(reranker("reranker-bert")), backend="onnx")
    model.prompts = {"query": "find: "}
    found = model.predict(PAIRS[:2], prompt_name="query")
    prompted = model.predict([("find: " + a, b) for a, b in PAIRS[:2]])
    np.testing.assert_allclose(found, prompted, atol=1e-6)
    model.reranker.close()


@pytest.mark.parametrize("kind", [CrossEncoder, SparseEncoder, MultiVectorEncoder])
def test_training_is_elsewhere(kind: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=rf"{kind.__name__}\.fit is not in core\. Train"):
        kind.fit()
    with pytest.raises(UnsupportedOperation, match=rf"{kind.__name__}\.train is not in core\."):
        kind.__new__(kind).train()


def test_what_is_not_here_says_so(model: CrossEncoder, reranker: Make) -> None:
    path = str(reranker("reranker-bert"))
    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: CrossEncoder(path, num_labels=3), OptionError, "num_labels=3.*training"),
        (lambda: CrossEncoder(modules=[]), OptionError, "loaded from files"),
        (lambda: CrossEncoder(path, keep_in_fp32_modules=["x"]), OptionError, "does not take"),  # type: ignore[call-arg]
        (lambda: model.predict(), OptionError, "predict takes pairs"),
        (lambda: model.predict([{"image": "a"}]), OptionError, "not a pair of texts"),
        (lambda: model.save("x", safe_serialization=False), OptionError, "safetensors"),
    ]
    for call, kind, says in calls:
        with pytest.raises(kind, match=says):
            call()


def test_a_name_alone_belongs_to_the_reference_s_organization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(core.ModelNotFound, match="cross-encoder/some-model"):
        CrossEncoder("some-model")
