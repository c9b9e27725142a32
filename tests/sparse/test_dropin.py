"""The drop-in `SparseEncoder`: parameters and results of sentence-transformers 6.2."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import core
from core import OptionError
from core.sentence_transformers import SparseEncoder, export_dynamic_quantized_onnx_model
from tests.kinds.test_recorded import recorded, rows_of
from tests.kinds.texts import SHORT_TEXTS
from tests.sparse.conftest import assert_close

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(sparse: Make) -> Iterator[SparseEncoder]:
    loaded = SparseEncoder(str(sparse("inference-free")), backend="onnx")
    yield loaded
    loaded.embedding_model.close()


def test_parameters_stand_in_the_reference_s_order_with_its_defaults() -> None:
    expected = [
        ("inputs", None), ("prompt_name", None), ("prompt", None), ("batch_size", 32),
        ("show_progress_bar", None), ("convert_to_tensor", True),
        ("convert_to_sparse_tensor", True), ("save_to_cpu", False), ("device", None),
        ("max_active_dims", None), ("pool", None), ("chunk_size", None),
    ]  # fmt: skip
    for method in (SparseEncoder.encode, SparseEncoder.encode_query, SparseEncoder.encode_document):
        parameters = list(inspect.signature(method).parameters.values())[1:-1]
        assert [(p.name, p.default) for p in parameters] == expected
    names = set(inspect.signature(SparseEncoder.__init__).parameters)
    assert {
        "model_name_or_path", "modules", "device", "prompts", "default_prompt_name",
        "cache_folder", "trust_remote_code", "revision", "local_files_only", "token",
        "model_kwargs", "processor_kwargs", "config_kwargs", "model_card_data", "backend",
        "similarity_fn_name", "max_active_dims",
    } <= names  # fmt: skip


def test_embeddings_come_in_the_reference_s_forms(model: SparseEncoder) -> None:
    expected = recorded("inference-free")
    documents = model.encode_document(SHORT_TEXTS)
    assert documents.is_sparse
    assert documents.shape == (len(SHORT_TEXTS), model.get_embedding_dimension())
    assert_close(core.SparseEmbeddings.from_torch(documents), rows_of(expected, "document"))
    queries = model.encode_query(SHORT_TEXTS)
    assert_close(core.SparseEmbeddings.from_torch(queries), rows_of(expected, "query"))
    found = model.similarity(queries, documents)
    np.testing.assert_allclose(found.numpy(), expected["similarity"], atol=1e-3, rtol=1e-4)
    dense = model.encode(SHORT_TEXTS, convert_to_sparse_tensor=False)
    assert not dense.is_sparse
    assert torch.allclose(dense, documents.to_dense())
    rows = model.encode(SHORT_TEXTS, convert_to_tensor=False)
    assert len(rows) == len(SHORT_TEXTS)
    assert all(row.is_sparse and row.ndim == 1 for row in rows)
    one = model.encode(sentences=SHORT_TEXTS[0])
    assert one.shape == (model.get_embedding_dimension(),)
    few = model.encode_document(SHORT_TEXTS, max_active_dims=8)
    assert_close(core.SparseEmbeddings.from_torch(few), rows_of(expected, "few"))
    assert model.encode([]).shape[0] == 0


def test_words_intersection_and_sparsity(model: SparseEncoder) -> None:
    rows = model.encode(SHORT_TEXTS[:2])
    words = model.decode(rows, top_k=4)
    assert [len(row) for row in words] == [4, 4]
    assert model.decode(rows[0], top_k=4) == words[0]
    assert model.decode(rows.to_dense()[1], top_k=1) == words[1][:1]
    both = model.intersection(rows[0], rows)
    assert both.shape == rows.shape
    wanted = (rows.to_dense()[0] * rows.to_dense()).clamp(min=0)
    torch.testing.assert_close(both.to_dense(), wanted)
    assert model.intersection(rows[0], rows[1]).shape == rows[0].shape
    found = model.sparsity(rows)
    active = (rows.to_dense() != 0).sum(dim=1).float().mean().item()
    assert found["active_dims"] == pytest.approx(active)
    assert found["sparsity_ratio"] == pytest.approx(1 - active / rows.shape[1])
    with pytest.raises(ValueError, match="top_k"):
        model.decode(rows, top_k=0)
    with pytest.raises(ValueError, match="must be one row"):
        model.intersection(rows, rows)


def test_settings(model: SparseEncoder, sparse: Make) -> None:
    assert model.prompts == {"query": "", "document": ""}
    assert model.similarity_fn_name == "dot"
    assert model.max_seq_length == 512
    assert model.backend == model.get_backend() == "onnx"
    assert model.tokenizer.tokenize("the query")
    assert "SparseEncoder" in repr(model)
    other = SparseEncoder(
        str(sparse("splade")),
        backend="onnx",
        max_active_dims=3,
        similarity_fn_name="cosine",
        prompts={"query": "find: "},
        processor_kwargs={"model_max_length": 16},
    )
    assert (other.max_active_dims, other.similarity_fn_name) == (3, "cosine")
    assert (other.prompts["query"], other.max_seq_length) == ("find: ", 16)
    assert len(other.encode(SHORT_TEXTS[1]).coalesce().values()) == 3
    with pytest.raises(OptionError, match="loaded from files"):
        SparseEncoder(modules=[])
    with pytest.raises(OptionError, match="does not take 'unknown'"):
        other.encode("a", unknown=1)


def test_without_a_number_an_autoencoder_keeps_its_own(sparse: Make) -> None:
    autoencoder = SparseEncoder(str(sparse("csr")), backend="torch")
    expected = autoencoder.encode(SHORT_TEXTS).to_dense()
    for most in (3, None):
        autoencoder.max_active_dims = most
    assert autoencoder.max_active_dims == 16
    assert torch.equal(autoencoder.encode(SHORT_TEXTS).to_dense(), expected)


def test_rows_may_be_a_list_of_sparse_tensors(model: SparseEncoder) -> None:
    rows, whole = model.encode(SHORT_TEXTS, convert_to_tensor=False), model.encode(SHORT_TEXTS)
    assert torch.equal(model.similarity(rows, rows), model.similarity(whole, whole))
    pairwise = model.similarity_pairwise(rows, rows)
    assert torch.equal(pairwise, model.similarity_pairwise(whole, whole))
    assert model.decode(rows, top_k=2) == model.decode(whole, top_k=2)
    assert model.sparsity(rows) == model.sparsity(whole)
    for wrong in (None, "words", ["words"]):
        with pytest.raises(OptionError, match="embeddings must be embeddings"):
            model.decode(wrong)


def test_tensors_have_the_half_dtype_that_torch_computes_in(sparse: Make) -> None:
    model = SparseEncoder(str(sparse("splade")), device="cpu", backend="torch")
    expected = model.encode("a cat", convert_to_sparse_tensor=False)
    for dtype in (torch.float16, torch.bfloat16):
        model.to(dtype)
        found = model.encode(["a cat"])
        assert found.is_sparse
        assert found.dtype == dtype
        assert [row.dtype for row in model.encode(["a cat"], convert_to_tensor=False)] == [dtype]
        dense = model.encode("a cat", convert_to_sparse_tensor=False)
        assert dense.dtype == dtype
        torch.testing.assert_close(dense.float(), expected, atol=0.1, rtol=0)
    assert model.float().encode("a cat").dtype == torch.float32
    model.embedding_model.close()


def test_it_is_saved_and_exported(sparse: Make, tmp_path: Path) -> None:
    model = SparseEncoder(str(sparse("splade")), backend="onnx")
    expected = model.encode(SHORT_TEXTS).to_dense()
    model.save_pretrained(str(tmp_path / "saved"))
    export_dynamic_quantized_onnx_model(model, "avx2", str(tmp_path / "saved"))
    assert (tmp_path / "saved/onnx/model_quint8_avx2.onnx").is_file()
    again = SparseEncoder(str(tmp_path / "saved"), backend="onnx")
    torch.testing.assert_close(again.encode(SHORT_TEXTS).to_dense(), expected)
    small = SparseEncoder(
        str(tmp_path / "saved"),
        backend="onnx",
        model_kwargs={"file_name": "onnx/model_quint8_avx2.onnx"},
    )
    assert small.embedding_model.dtype == "int8"


@pytest.mark.parametrize("backend", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_without_torch_and_sentence_transformers(sparse: Make, backend: str) -> None:
    """Exported files need neither, nor scipy; the drop-in then gives rows of core's own."""
    code = f"""
import sys
for name in ("torch", "sentence_transformers", "transformers", "scipy"):
    sys.modules[name] = None
import core
from core.sentence_transformers import SparseEncoder
model = core.load_sparse({str(sparse("inference-free"))!r}, backend={backend!r}, export=False)
rows = model.encode_document(["one text", "another"])
print(model.similarity(model.encode_query(["one"]), rows).shape, len(model.decode(rows, 3)))
other = SparseEncoder({str(sparse("csr"))!r}, backend={backend!r})
print(type(other.encode(["one text"])).__name__, other.encode("a").shape)
print(other.similarity(other.encode(["a"]), other.encode(["a", "b"])).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = ["(1, 2) 2", "SparseEmbeddings (1, 128)", "(1, 2)"]
    assert done.stdout.splitlines() == expected
