"""Results of sentence-transformers 6.2 for the tiny models, recorded by scripts/kinds_parity.py.

They are results of the models that are built here, whatever versions of the libraries built them:
transformers computes the same logits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import core
from core import SparseEmbeddings
from core.architecture.modules import unit_length
from core.engine.maxsim import maxsim
from core.engine.sparse_similarity import sparse_similarity
from tests.kinds.texts import SHORT_PAIRS, SHORT_TEXTS
from tests.tiny_kinds import KINDS, MULTI_VECTOR, SPARSE

RECORDED = Path(__file__).parent / "recorded"

Make = Callable[[str], Path]


def recorded(name: str) -> dict[str, NDArray[Any]]:
    with np.load(RECORDED / f"{name}.npz") as results:
        return dict(results)


def rows_of(results: dict[str, NDArray[Any]], name: str) -> SparseEmbeddings:
    """Recorded rows of sparse embeddings."""
    indptr, indices, values, shape = (
        results[f"{name}.{part}"] for part in ("indptr", "indices", "values", "shape")
    )
    return SparseEmbeddings(indptr, indices, values, (int(shape[0]), int(shape[1])))


def vectors_of(results: dict[str, NDArray[Any]], name: str) -> list[NDArray[np.float32]]:
    """Recorded vectors of each text's tokens."""
    ends = np.cumsum(results[f"{name}.lengths"])[:-1]
    return np.split(results[f"{name}.vectors"].astype(np.float32), ends)


def test_every_layout_is_recorded() -> None:
    assert {path.stem for path in RECORDED.glob("*.npz")} == set(KINDS)
    assert sum(path.stat().st_size for path in RECORDED.iterdir()) < 250_000


@cache
def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def tokenize(folder: Path, texts: list[Any]) -> Any:
    tokenizer = tokenizer_of(folder)
    return tokenizer(texts, padding=True, truncation="longest_first", return_tensors="pt")


@pytest.mark.parametrize(
    "name",
    ["reranker-bert", "reranker-labels", "reranker-xlm-roberta-left", "reranker-qwen3-classifier"],
)
def test_rerankers(name: str, tiny_kind: Make) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_kind(name))
    # One by one: a classifier that reads the first position must not find padding there.
    batches = [tokenize(tiny_kind(name), [pair]) for pair in SHORT_PAIRS]
    with torch.inference_mode():
        logits = np.concatenate([model(**batch).logits.numpy() for batch in batches])
    results = recorded(name)
    labels = logits.shape[1] > 1
    expected = logits if labels else logits[:, 0]
    assert np.allclose(results["logits"], expected, atol=1e-5)
    if labels:
        assert np.array_equal(results["scores"], results["logits"])
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.allclose(results["softmax"], shares, atol=1e-5)
    else:
        assert np.allclose(results["scores"], 1 / (1 + np.exp(-expected)), atol=1e-5)
        assert (np.diff(results["ranked_scores"]) <= 0).all()
        assert sorted(results["ranked"]) == list(range(len(SHORT_TEXTS)))


def test_causal_rerankers(tiny_kind: Make) -> None:
    import json

    from transformers import AutoModelForCausalLM

    folder = tiny_kind("reranker-qwen3")
    words = json.loads((folder / "1_LogitScore/config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        last = model(**tokenize(folder, SHORT_PAIRS)).logits[:, -1]
    scores = last[:, words["true_token_id"]] - last[:, words["false_token_id"]]
    assert np.allclose(recorded("reranker-qwen3")["scores"], scores.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "pooling", "twice"),
    [("splade", "amax", False), ("splade-old-sum", "sum", True), ("splade-sum", "sum", False)],
)
def test_splade(name: str, pooling: str, twice: bool, tiny_kind: Make) -> None:
    from transformers import AutoModelForMaskedLM

    tokens = tokenize(tiny_kind(name), SHORT_TEXTS)
    model = AutoModelForMaskedLM.from_pretrained(tiny_kind(name))
    with torch.inference_mode():
        logits = model(**tokens).logits * tokens["attention_mask"][..., None]
    weights = torch.log1p(torch.relu(logits))
    weights = torch.log1p(weights) if twice else weights
    expected = getattr(weights, pooling)(dim=1).numpy()
    found = rows_of(recorded(name), "document")
    assert np.allclose(found.to_dense(), expected, atol=1e-5)
    assert 0.5 < found.sparsity()["sparsity_ratio"] < 0.98


@pytest.mark.parametrize("name", SPARSE)
def test_similarities_of_sparse_rows(name: str) -> None:
    results = recorded(name)
    queries, documents = rows_of(results, "query"), rows_of(results, "document")
    found = sparse_similarity(queries, documents)
    assert np.allclose(found, results["similarity"], rtol=1e-5, atol=1e-5)
    few = rows_of(results, "few")
    if not name.startswith("csr"):  # an autoencoder takes that many before it drops negative ones
        assert few == documents.top(8)
    assert np.diff(few.indptr).max() <= 8
    assert len(np.unique(results["similarity"].round(3))) > 15  # and not the same for all


@pytest.mark.parametrize("name", MULTI_VECTOR)
def test_similarities_of_token_vectors(name: str) -> None:
    results = recorded(name)
    queries, documents = vectors_of(results, "query"), vectors_of(results, "document")
    function = "meanmaxsim" if name == "colbert-attend" else "maxsim"
    found = maxsim(queries, documents, function)
    assert np.allclose(found, results["similarity"], rtol=2e-3, atol=2e-3)  # of half precision
    assert all(np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-3) for one in documents)


def test_the_dense_vectors_of_bge_m3(tiny_kind: Make) -> None:
    with core.load(tiny_kind("bge-m3"), backend="torch", device="cpu") as model:
        found = model.encode(SHORT_TEXTS)
    results = recorded("bge-m3")
    assert np.allclose(found, results["dense"], atol=1e-5)
    assert np.allclose(unit_length(np, found), found, atol=1e-5)
    assert results["multi_vector.lengths"].min() >= 1
