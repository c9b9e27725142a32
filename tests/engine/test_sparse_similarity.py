"""Similarities of sparse embeddings against those of the same rows as dense arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import core
from core import SparseEmbeddings
from core.engine import sparse_similarity as module
from core.engine.similarity import similarity, similarity_pairwise
from core.engine.sparse_similarity import (
    intersection,
    sparse_similarity,
    sparse_similarity_pairwise,
)
from tests.engine.test_sparse import dense

FUNCTIONS = ("dot", "cosine", "euclidean", "manhattan")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("block", [4, 64, 2**18])
def test_every_pair(function: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)  # sums that go over several blocks
    monkeypatch.setattr(module, "_SPREAD", block * 4)
    first, second = dense(7, 40, 0), dense(11, 40, 1)
    found = sparse_similarity(
        SparseEmbeddings.from_dense(first), SparseEmbeddings.from_dense(second), function
    )
    assert found.dtype == np.float32
    # The root of a difference of squares loses digits.
    assert np.allclose(found, similarity(first, second, function), atol=2e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_row_by_row(function: str) -> None:
    first, second = dense(9, 40, 0), dense(9, 40, 1)
    found = sparse_similarity_pairwise(
        SparseEmbeddings.from_dense(first), SparseEmbeddings.from_dense(second), function
    )
    assert found.shape == (9,)
    assert found.dtype == np.float32
    assert np.allclose(found, similarity_pairwise(first, second, function), atol=2e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_rows(function: str) -> None:
    rows, none = SparseEmbeddings.from_dense(dense()), SparseEmbeddings.from_dense(dense())[:0]
    assert sparse_similarity(rows, none, function).shape == (7, 0)
    assert sparse_similarity(none, rows, function).shape == (0, 7)
    assert sparse_similarity_pairwise(none, none, function).shape == (0,)


def test_many_rows_agree_with_a_matrix_product() -> None:
    generator = np.random.default_rng(5)
    first = generator.random((300, 2_000), dtype=np.float32)
    second = generator.random((700, 2_000), dtype=np.float32)
    first[first < 0.97] = 0
    second[second < 0.97] = 0
    found = sparse_similarity(
        SparseEmbeddings.from_dense(first), SparseEmbeddings.from_dense(second)
    )
    assert np.allclose(found, first @ second.T, atol=1e-4)


def test_intersection_keeps_positive_products() -> None:
    first = SparseEmbeddings.from_dense([[1.0, 2.0, 0, -1.0, -2.0]])
    second = SparseEmbeddings.from_dense([[3.0, 0, 1.0, 1.0, -1.0], [0, 0.5, 0, 0, 0]])
    expected = [{0: 3.0, 4: 2.0}, {1: 1.0}]
    assert intersection(first, second).to_dicts() == expected
    both = SparseEmbeddings.concatenate([first, first])
    assert intersection(both, second) == intersection(first, second)
    assert intersection(first, second[:0]).shape == (0, 5)


def test_what_does_not_fit_is_said() -> None:
    rows = SparseEmbeddings.from_dense(dense())
    narrow = SparseEmbeddings.from_dense(dense(7, 39))
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: sparse_similarity(rows, narrow), "of 40 and of 39 dimensions"),
        (lambda: sparse_similarity(rows, rows, "maxsim"), "not 'maxsim'"),
        (lambda: sparse_similarity(rows, dense()), "b must be SparseEmbeddings, not ndarray"),  # type: ignore[arg-type]
        (lambda: sparse_similarity_pairwise(rows, rows[:3]), "7 and 3 rows"),
        (lambda: intersection(rows[:2], rows), "1 row or 7"),
    ]
    for call, message in calls:
        with pytest.raises(core.OptionError, match=message):
            call()
