"""MaxSim against a plain loop."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import core
from core.engine import maxsim as module
from core.engine.maxsim import EMPTY_DOCUMENT, maxsim, maxsim_pairwise


def texts(lengths: list[int], seed: int, dimension: int = 8) -> list[NDArray[np.float32]]:
    """Vectors of length 1, so many for each text."""
    generator = np.random.default_rng(seed)
    made = []
    for length in lengths:
        rows = generator.normal(size=(length, dimension)).astype(np.float32)
        made.append(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
    return made


def one_by_one(queries: list[Any], documents: list[Any]) -> NDArray[np.float64]:
    scores = np.zeros((len(queries), len(documents)))
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            if not len(document):
                scores[i, j] = EMPTY_DOCUMENT
                continue
            for vector in query:
                scores[i, j] += max(float(vector @ other) for other in document)
    return scores


QUERIES = texts([3, 1, 0, 7], 0)
DOCUMENTS = texts([5, 0, 1, 12, 2], 1)


@pytest.mark.parametrize("rows", [1, 4, 2048])
@pytest.mark.parametrize("products", [1, 8, 2**19])
def test_every_pair(rows: int, products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", rows)
    monkeypatch.setattr(module, "_PRODUCTS", products)
    scores = maxsim(QUERIES, DOCUMENTS)
    assert scores.dtype == np.float32
    assert np.allclose(scores, one_by_one(QUERIES, DOCUMENTS), atol=1e-5)


def test_the_mean_is_over_the_vectors_of_the_query() -> None:
    mean = maxsim(QUERIES, DOCUMENTS, "meanmaxsim")
    lengths = np.array([3, 1, 1, 7])[:, None]
    assert np.allclose(mean, one_by_one(QUERIES, DOCUMENTS) / lengths, atol=1e-5)


@pytest.mark.parametrize("products", [1, 2**19])
def test_pairs(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRODUCTS", products)
    documents = DOCUMENTS[:4]
    expected = np.diag(one_by_one(QUERIES, documents))
    assert np.allclose(maxsim_pairwise(QUERIES, documents), expected, atol=1e-5)
    mean = maxsim_pairwise(QUERIES, documents, "meanmaxsim")
    assert np.allclose(mean, expected / [3, 1, 1, 7], atol=1e-5)
    assert maxsim_pairwise([], []).shape == (0,)


def test_what_vectors_may_come_as() -> None:
    expected = maxsim(QUERIES, DOCUMENTS)
    tensors = [torch.from_numpy(one) for one in DOCUMENTS]
    assert np.array_equal(maxsim(QUERIES, tensors), expected)
    assert np.array_equal(maxsim(tuple(QUERIES), DOCUMENTS), expected)
    assert np.allclose(maxsim(QUERIES[0], DOCUMENTS), expected[:1], atol=1e-6)
    assert np.allclose(maxsim(torch.from_numpy(QUERIES[0]), DOCUMENTS), expected[:1], atol=1e-6)
    lists = [one.tolist() for one in QUERIES]
    assert np.allclose(maxsim(lists, DOCUMENTS), expected, atol=1e-6)
    objects = np.empty(len(DOCUMENTS), dtype=object)
    objects[:] = DOCUMENTS
    assert np.array_equal(maxsim(QUERIES, objects), expected)
    half = [torch.from_numpy(one).bfloat16() for one in DOCUMENTS]
    assert np.allclose(maxsim(QUERIES, half), expected, atol=0.1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_of_zeros_are_padding_in_one_array(side: str) -> None:
    padded = np.zeros((len(DOCUMENTS), 12, 8), dtype=np.float32)
    for target, document in zip(padded, DOCUMENTS, strict=True):
        place = slice(len(document)) if side == "right" else slice(12 - len(document), None)
        target[place] = document
    expected = maxsim(QUERIES, DOCUMENTS)
    assert np.allclose(maxsim(QUERIES, padded), expected, atol=1e-6)
    assert np.allclose(maxsim(QUERIES, torch.from_numpy(padded)), expected, atol=1e-6)


def test_nothing_to_compare() -> None:
    assert maxsim([], DOCUMENTS).shape == (0, 5)
    assert maxsim(QUERIES, []).shape == (4, 0)
    empty = [np.empty((0, 8), np.float32)]
    assert maxsim(empty, empty).tolist() == [[EMPTY_DOCUMENT]]
    assert maxsim(QUERIES, empty).shape == (4, 1)


def test_memory_does_not_grow_with_the_corpus() -> None:
    queries, documents = texts([32] * 8, 2, 16), texts([200] * 500, 3, 16)
    tracemalloc.start()
    maxsim(queries, documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    every_product = 8 * 32 * 500 * 200 * 4
    assert peak < every_product / 10


def test_what_cannot_be_compared_is_said() -> None:
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: maxsim(QUERIES, DOCUMENTS, "cosine"), "'maxsim' or 'meanmaxsim', not 'cosine'"),
        (lambda: maxsim(QUERIES, texts([2], 0, 9)), "of 8 and of 9 dimensions"),
        (lambda: maxsim(QUERIES, [*DOCUMENTS, *texts([2], 0, 9)]), "different dimensions: 8, 9"),
        (lambda: maxsim("texts", DOCUMENTS), "a must be a list of arrays"),
        (lambda: maxsim(5, DOCUMENTS), "a must be a list of arrays"),
        (lambda: maxsim([[1.0, 2.0]], DOCUMENTS), r"a\[0\] must have shape"),
        (lambda: maxsim(np.ones(3), DOCUMENTS), r"\[tokens, dimension\] or"),
        (lambda: maxsim([["a"]], DOCUMENTS), r"a\[0\]"),
        (lambda: maxsim_pairwise(QUERIES, DOCUMENTS), "4 queries and 5 documents"),
    ]
    for call, message in calls:
        with pytest.raises(core.OptionError, match=message):
            call()
