"""`util` on sparse rows and vectors of tokens; numbers are those of sentence-transformers 6.2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import core
from core.sentence_transformers import SimilarityFunction, util
from tests.engine.test_sparse import dense

QUERIES = [torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0.6, 0.8]])]
DOCUMENTS = [
    torch.tensor([[0.0, 1], [-1, 0], [0.8, 0.6]]),
    torch.tensor([[-0.6, 0.8], [0.0, -1]]),
]
SCORES = torch.tensor([[1.8, 0.8], [0.96, 0.28]])
QUERY_MASK, DOCUMENT_MASK = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1, 0, 0], [1, 1, 0]])
MASKED = torch.tensor([[1.0, 0.8], [0.8, 0.28]])


def padded(vectors: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True)


def test_maxsim_and_its_mean() -> None:
    torch.testing.assert_close(util.maxsim(QUERIES, DOCUMENTS), SCORES)
    halves = SCORES / torch.tensor([[2.0], [1.0]])
    torch.testing.assert_close(util.mean_maxsim(QUERIES, DOCUMENTS), halves)
    torch.testing.assert_close(util.maxsim(QUERIES, DOCUMENTS, length_normalize=True), halves)
    torch.testing.assert_close(util.maxsim_pairwise(QUERIES, DOCUMENTS), SCORES.diagonal())
    torch.testing.assert_close(util.mean_maxsim_pairwise(QUERIES, DOCUMENTS), halves.diagonal())
    found = SimilarityFunction.to_similarity_fn("maxsim")(padded(QUERIES), padded(DOCUMENTS))
    torch.testing.assert_close(found, SCORES)
    pairs = SimilarityFunction.to_similarity_pairwise_fn(SimilarityFunction.MEAN_MAXSIM)
    torch.testing.assert_close(pairs(QUERIES, DOCUMENTS), halves.diagonal())
    without = [*DOCUMENTS, torch.zeros(0, 2)]
    assert util.maxsim(QUERIES, without)[:, 2].tolist() == [-1e9, -1e9]
    assert util.maxsim(QUERIES, without, chunk_elements=1).shape == (2, 3)


@pytest.mark.parametrize("arrays", [False, True])
def test_masks_leave_vectors_out(arrays: bool) -> None:
    def made(tensor: torch.Tensor) -> Any:
        return tensor.numpy() if arrays else tensor

    query, document = made(padded(QUERIES)), made(padded(DOCUMENTS))
    masks = made(QUERY_MASK), made(DOCUMENT_MASK)
    torch.testing.assert_close(util.maxsim(query, document, *masks), MASKED)
    torch.testing.assert_close(util.mean_maxsim(query, document, *masks), MASKED)
    lists = util.maxsim(QUERIES, DOCUMENTS, b_mask=masks[1])
    torch.testing.assert_close(lists, MASKED)
    ragged = [torch.tensor([0, 0, 1]), torch.tensor([0, 1])]
    expected = torch.tensor([[1.4, -1.0], [0.96, -0.8]])
    torch.testing.assert_close(util.maxsim(QUERIES, DOCUMENTS, b_mask=ragged), expected)
    one = util.maxsim(made(QUERIES[0]), document, made(torch.tensor([0, 1])))
    torch.testing.assert_close(one, torch.tensor([[1.0, 0.8]]))


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(core.OptionError, match="b_mask is for 1 texts, and b has 2"):
        util.maxsim(QUERIES, DOCUMENTS, b_mask=DOCUMENT_MASK[:1])
    with pytest.raises(core.OptionError, match="b_mask covers"):
        util.maxsim(QUERIES, DOCUMENTS, b_mask=DOCUMENT_MASK[:, :1])
    with pytest.raises(core.OptionError, match="chunk_elements"):
        util.maxsim(QUERIES, DOCUMENTS, chunk_elements=0)


NAMES = ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"]


@pytest.mark.parametrize("name", NAMES)
def test_sparse_rows_are_compared_as_dense_ones(name: str) -> None:
    first, second = torch.from_numpy(dense(6, 30, 0)), torch.from_numpy(dense(6, 30, 1))
    every, pairwise = getattr(util, name), getattr(util, f"pairwise_{name}")
    rows = core.SparseEmbeddings.from_torch(second)
    for other in (second.to_sparse(), rows, rows.to_scipy(), second):
        found = every(first.to_sparse(), other)
        torch.testing.assert_close(found, every(first, second), atol=1e-5, rtol=1e-5)
        found = pairwise(first.to_sparse(), other)
        torch.testing.assert_close(found, pairwise(first, second), atol=1e-5, rtol=1e-5)
    one = first[0].to_sparse()
    torch.testing.assert_close(
        every(one, second.to_sparse()), every(first[0], second), atol=1e-5, rtol=1e-5
    )
    single = pairwise(one, second[0].to_sparse())
    torch.testing.assert_close(single, pairwise(first[0], second[0]), atol=1e-5, rtol=1e-5)
    assert (
        pairwise(one, second.to_sparse()).shape == pairwise(second.to_sparse(), one).shape == (6,)
    )


def test_search_in_sparse_rows() -> None:
    corpus = torch.from_numpy(dense(20, 30, 2))
    queries = torch.from_numpy(dense(5, 30, 3))
    expected = util.semantic_search(queries, corpus, top_k=3, score_function=util.dot_score)
    for size in (2, 100):
        found = util.semantic_search(
            queries.to_sparse(),
            corpus.to_sparse(),
            top_k=3,
            score_function=util.dot_score,
            query_chunk_size=size,
            corpus_chunk_size=size,
        )
        for hits, wanted in zip(found, expected, strict=True):
            scores = [hit["score"] for hit in hits]
            assert scores == pytest.approx([hit["score"] for hit in wanted], abs=1e-5)
    one = util.semantic_search(queries[0].to_sparse(), corpus.to_sparse(), top_k=3)
    assert len(one) == 1
    assert one[0][0]["corpus_id"] == util.semantic_search(queries[0], corpus)[0][0]["corpus_id"]


def test_the_largest_values_of_each_row() -> None:
    rows = np.array([[1.0, -3, 2, 0]], dtype=np.float32)
    found = util.select_max_active_dims(rows, 2)
    assert torch.equal(found, torch.tensor([[0.0, -3, 2, 0]]))
    one = util.select_max_active_dims(torch.from_numpy(rows[0]), 1)
    assert torch.equal(one, torch.tensor([0.0, -3, 0, 0]))
    assert util.select_max_active_dims(rows, None) is rows
    with pytest.raises(ValueError, match="max_active_dims"):
        util.select_max_active_dims(rows, 0)


def test_sparse_rows_of_length_one() -> None:
    sparse = torch.tensor([[0, 1.0, 2], [3, 0, 0]]).to_sparse()
    found = util.normalize_embeddings(sparse)
    assert found.is_sparse
    expected = torch.tensor([[0, 0.4472136, 0.8944272], [1, 0, 0]])
    torch.testing.assert_close(found.to_dense(), expected)
    torch.testing.assert_close(util.normalize_embeddings(sparse[0]).to_dense(), expected[0])
    coordinates = util.to_scipy_coo(sparse)
    assert coordinates.format == "coo"
    assert np.array_equal(coordinates.toarray(), sparse.to_dense().numpy())
    with pytest.raises(core.OptionError, match="must be sparse"):
        util.to_scipy_coo(expected)
