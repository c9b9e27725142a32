"""Similarities of the kinds of embeddings that a model gives beside its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import core
from tests.outputs.conftest import OUTPUTS, TEXTS

Models = dict[str, core.EmbeddingModel]


def test_similarities_are_flagembedding_s(models: Models, expected: list[dict[str, Any]]) -> None:
    """Products of the words' weights; the mean of each token's best match."""
    model = models["torch"]
    found = model.encode(TEXTS, outputs=OUTPUTS)
    sparse = model.similarity(found["sparse"], found["sparse"])
    vectors = model.similarity(found["multi_vector"], found["multi_vector"])
    for i, first in enumerate(expected):
        for j, second in enumerate(expected):
            words = first["sparse"].keys() & second["sparse"].keys()
            product = sum(first["sparse"][w] * second["sparse"][w] for w in words)
            assert abs(sparse[i, j] - product) < 1e-3
            best = (first["multi_vector"] @ second["multi_vector"].T).max(axis=1)
            assert abs(vectors[i, j] - best.mean()) < 1e-4


def test_row_by_row(models: Models) -> None:
    model = models["torch"]
    found = model.encode(TEXTS, outputs=OUTPUTS)
    for name in OUTPUTS:
        pairs = model.similarity_pairwise(found[name], found[name])
        whole = model.similarity(found[name], found[name])
        np.testing.assert_allclose(pairs, np.diagonal(whole), rtol=1e-4, atol=1e-5)


def test_kinds_are_not_mixed(models: Models) -> None:
    model = models["torch"]
    found = model.encode(TEXTS, outputs=OUTPUTS)
    for first, second in (("dense", "sparse"), ("multi_vector", "sparse")):
        with pytest.raises(core.OptionError, match="embeddings of one kind"):
            model.similarity(found[first], found[second])
