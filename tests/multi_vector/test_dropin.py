"""The drop-in `MultiVectorEncoder`: parameters and results of sentence-transformers 6.2."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import OptionError, UnsupportedOperation
from core.sentence_transformers import (
    MultiVectorEncoder,
    SimilarityFunction,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from core.sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from tests.kinds.test_recorded import recorded, vectors_of
from tests.kinds.texts import SHORT_TEXTS

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(exported: Make) -> Iterator[MultiVectorEncoder]:
    loaded = MultiVectorEncoder(str(exported("colbert")), backend="onnx")
    yield loaded
    loaded.embedding_model.close()


def assert_close(found: Any, expected: Any, atol: float = 2e-3) -> None:
    assert [tuple(one.shape) for one in found] == [one.shape for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other, atol=atol)


def test_parameters_stand_in_the_reference_s_order_with_its_defaults() -> None:
    shared = [
        ("prompt_name", None), ("prompt", None), ("batch_size", 32), ("show_progress_bar", None),
        ("output_value", "token_embeddings"), ("convert_to_numpy", False), ("device", None),
        ("normalize_embeddings", False), ("pool", None), ("chunk_size", None),
        ("token_pooling", None),
    ]  # fmt: skip
    for name, more in (("encode", [("task", None)]), ("encode_query", []), ("encode_document", [])):
        method = getattr(MultiVectorEncoder, name)
        parameters = list(inspect.signature(method).parameters.values())[2:]
        named = [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert named == [*shared, *more]
    names = list(inspect.signature(MultiVectorEncoder.__init__).parameters)[1:]
    assert names == [
        "model_name_or_path", "modules", "device", "prompts", "default_prompt_name",
        "cache_folder", "trust_remote_code", "revision", "local_files_only", "token",
        "model_kwargs", "processor_kwargs", "config_kwargs", "model_card_data", "backend",
        "similarity_fn_name",
    ]  # fmt: skip


def test_vectors_come_in_the_reference_s_forms(model: MultiVectorEncoder) -> None:
    results = recorded("colbert")
    queries, documents = model.encode_query(SHORT_TEXTS), model.encode_document(SHORT_TEXTS)
    assert isinstance(queries, list)
    assert all(isinstance(row, torch.Tensor) and row.dtype == torch.float32 for row in queries)
    assert_close(queries, vectors_of(results, "query"))
    assert_close(documents, vectors_of(results, "document"))
    assert_close(model.encode(SHORT_TEXTS), vectors_of(results, "plain"))
    arrays = model.encode_document(SHORT_TEXTS, convert_to_numpy=True)
    assert all(isinstance(row, np.ndarray) for row in arrays)
    one = model.encode_document(SHORT_TEXTS[1])
    assert isinstance(one, torch.Tensor)
    np.testing.assert_allclose(one.numpy(), arrays[1], atol=1e-5)
    scores = model.similarity(queries, documents)
    assert isinstance(scores, torch.Tensor)
    np.testing.assert_allclose(scores.numpy(), results["similarity"], rtol=2e-3, atol=2e-3)
    pairs = model.similarity_pairwise(queries, documents)
    torch.testing.assert_close(pairs, scores.diagonal(), rtol=1e-4, atol=1e-4)
    means = model.similarity(queries, documents, length_normalize=True)
    torch.testing.assert_close(means, scores / 32)


def test_a_task_does_not_choose_a_prompt(
    model: MultiVectorEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    plain = model.encode("a cat", task="query", convert_to_numpy=True)
    named = model.encode("a cat", prompt_name="query", task="query", convert_to_numpy=True)
    queries = model.encode_query(["a cat", {"text": "a cat"}], convert_to_numpy=True)
    assert not np.allclose(plain, named)
    assert_close(queries, [named, named], 1e-5)
    with caplog.at_level(logging.WARNING):
        found = model.encode("a cat", "document", "", task="query", convert_to_numpy=True)
    assert "prompt and prompt_name are both given" in caplog.text
    assert_close([found], [plain], 1e-5)


def test_token_pooling_is_the_reference_s(model: MultiVectorEncoder) -> None:
    documents = vectors_of(recorded("colbert"), "document")
    pooled = vectors_of(recorded("colbert"), "pooled")
    pooling = HierarchicalTokenPooling(pool_factor=2.0)
    assert_close(model.encode_document(SHORT_TEXTS, token_pooling=pooling), pooled)
    tensors = [
        torch.from_numpy(one) for one in model.encode_document(SHORT_TEXTS, convert_to_numpy=True)
    ]
    assert_close(pooling.pool(tensors), pooled)
    assert pooling.pool(tensors, task="query") is tensors
    queries = model.encode_query(SHORT_TEXTS[:1], token_pooling=pooling)
    assert_close(queries, vectors_of(recorded("colbert"), "query")[:1])
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    found = pooling.pool(padded)
    assert found.shape == (len(pooled), max(map(len, pooled)), 16)
    assert_close([row[: len(one)] for row, one in zip(found, pooled, strict=True)], pooled)
    left = torch.nn.utils.rnn.pad_sequence([one.flip(0) for one in tensors], batch_first=True).flip(
        1
    )
    mask = left.abs().sum(-1) > 0
    for given in (mask, None):
        found = pooling.pool(left, attention_mask=given, padding_side="left")
        assert_close([row[-len(one) :] for row, one in zip(found, pooled, strict=True)], pooled)
    assert len(documents) == len(pooled)
    for wrong in ({"pool_factor": 0.5}, {"num_protected_tokens": -1}, {"tasks": "nothing"}):
        with pytest.raises(ValueError, match=r"pool_factor|num_protected_tokens|tasks"):
            HierarchicalTokenPooling(**wrong)
    with pytest.raises(OptionError, match=r"\[texts, tokens, dimension\]"):
        pooling.pool(padded[0])


def test_settings(exported: Make) -> None:
    path = str(exported("colbert"))
    other = MultiVectorEncoder(
        path,
        prompts={"query": "find: ", "document": None},  # type: ignore[dict-item]
        default_prompt_name="query",
        similarity_fn_name=SimilarityFunction.MEAN_MAXSIM,
        processor_kwargs={"model_max_length": 30},
    )
    assert other.prompts == {"query": "find: ", "document": "passage: "}
    assert (other.default_prompt_name, other.similarity_fn_name) == ("query", "meanmaxsim")
    assert other.max_seq_length == other.get_max_seq_length() == 30
    assert other.get_embedding_dimension() == 16
    assert (other.backend, other.get_backend(), len(other)) == ("torch", "torch", 4)
    assert other.tokenizer("a cat")["input_ids"]
    other.similarity_fn_name = None
    assert other.similarity_fn_name == "maxsim"
    found = other.encode("a cat", convert_to_numpy=True)
    assert_close([found], [other.encode_document("a cat", prompt="find: ").numpy()], 1e-5)
    half = other.half().encode("a cat")
    assert half.dtype == torch.float16
    assert other.encode("a cat", convert_to_numpy=True).dtype == np.float16
    assert other.eval() is other
    other.embedding_model.close()


def test_files_of_the_drop_in(model: MultiVectorEncoder, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    model.save_pretrained(saved)
    export_dynamic_quantized_onnx_model(model, "avx2", saved)
    export_optimized_onnx_model(model, "O3", saved)
    assert (tmp_path / "saved/onnx/model_O3.onnx").is_file()
    again = MultiVectorEncoder(
        saved, backend="onnx", model_kwargs={"file_name": "onnx/model_quint8_avx2.onnx"}
    )
    assert_close(again.encode_query(SHORT_TEXTS), vectors_of(recorded("colbert"), "query"), 0.3)
    again.embedding_model.close()


@pytest.mark.slow
def test_static_quantization(exported: Make, tmp_path: Path) -> None:
    loaded = MultiVectorEncoder(str(exported("colbert")), backend="openvino")
    export_static_quantized_openvino_model(loaded, None, str(tmp_path))
    assert (tmp_path / "openvino/openvino_model_qint8_quantized.xml").is_file()
    record = tmp_path / "openvino/openvino_model_qint8_quantized.xml.json"
    assert json.loads(record.read_text())["verification"]["mean_cosine"] > 0.95
    loaded.embedding_model.close()


def test_what_is_not_here_says_so(model: MultiVectorEncoder, exported: Make) -> None:
    path = str(exported("colbert"))
    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: MultiVectorEncoder(modules=[]), OptionError, "loaded from files"),
        (lambda: MultiVectorEncoder(path, similarity_fn_name="cosine"), ValueError, "maxsim"),
        (
            lambda: MultiVectorEncoder(path, default_prompt_name="x"),
            ValueError,
            "one of the model's",
        ),
        (lambda: model.encode("a", convert_to_tensor=True), ValueError, "no convert_to_tensor"),
        (lambda: model.encode("a", nonsense=1), ValueError, "does not take 'nonsense'"),
        (lambda: model.encode("a", output_value=None), UnsupportedOperation, "tokenize"),
        (lambda: model.encode("a", task="search"), ValueError, "task must be one of"),
        (lambda: model.encode_query("a", task="document"), ValueError, "leave task out"),
        (lambda: model.encode([("a", "b")]), ValueError, "not a text"),
        (lambda: model.encode("a", batch_size=0), ValueError, "batch_size"),
        (lambda: model[0], UnsupportedOperation, "query_length"),
        (lambda: model.save("x", safe_serialization=False), OptionError, "safetensors"),
        (
            lambda: export_static_quantized_openvino_model(model, None, "x"),
            OptionError,
            "backend='openvino'",
        ),
    ]
    for call, kind, says in calls:
        with pytest.raises(kind, match=says):
            call()
