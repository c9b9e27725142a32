"""Pooled vectors of tokens, against scipy's clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

import core
from core.engine.token_pooling import chosen_pooling, pool_tokens, ward_clusters
from tests.engine.test_maxsim import texts


def distances_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.clip(1 - rows @ rows.T, 0, 2), dtype=np.float32)


@pytest.mark.parametrize("points", [2, 3, 10, 60, 150])
@pytest.mark.parametrize("repeated", [False, True])
def test_clusters_and_their_order_are_those_of_scipy(points: int, repeated: bool) -> None:
    for seed in range(5):
        rows = texts([points], seed, 6)[0]
        if repeated:  # equal distances: several joins of one height
            rows = rows[np.random.default_rng(seed).integers(0, max(1, points // 2), points)]
        distances = distances_of(rows)
        tree = linkage(squareform(distances, checks=False), "ward")
        for count in sorted({1, max(1, points // 3), max(1, points // 2), points - 1}):
            expected = fcluster(tree, t=count, criterion="maxclust") - 1
            assert np.array_equal(ward_clusters(distances, count), expected), (seed, count)


def test_close_vectors_become_their_mean() -> None:
    rows = np.array(
        [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.995, 0.0998749, 0], [0.0998749, 0.995, 0]],
        dtype=np.float32,
    )
    pooled = pool_tokens(rows, 2.0, normalize_embeddings=False)
    assert pooled.dtype == np.float32
    assert np.array_equal(pooled[0], rows[0])  # protected
    means = [rows[[1, 3]].mean(axis=0), rows[[2, 4]].mean(axis=0)]
    found = pooled[1:][np.argsort(-pooled[1:, 0])]
    assert np.allclose(found, means, atol=1e-6)
    scaled = pool_tokens(rows, 2.0)
    assert np.allclose(np.linalg.norm(scaled, axis=1), 1)
    assert np.allclose(scaled, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "factor", "protected", "left"),
    [
        (11, 2.0, 1, 6),
        (11, 1.5, 1, 7),
        (11, 3, 0, 3),
        (11, 100, 1, 2),
        (3, 2.0, 5, 3),
        (1, 2, 1, 1),
    ],
)
def test_how_many_are_left(tokens: int, factor: float, protected: int, left: int) -> None:
    rows = texts([tokens], 4)[0]
    assert len(pool_tokens(rows, factor, protected)) == left


def test_a_factor_of_one_joins_none() -> None:
    rows = texts([9], 4)[0] * 2
    assert np.array_equal(pool_tokens(rows, 1, normalize_embeddings=False), rows)
    assert np.allclose(pool_tokens(rows, 1.0), rows / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5,), "pool_factor must be a number of 1 or more, not 0.5"),
        ((float("nan"),), "pool_factor must be a number of 1 or more, not nan"),
        (("2",), "pool_factor"),
        ((True,), "pool_factor"),
        ((2.0, -1), "num_protected_tokens must be a number of 0 or more, not -1"),
        ((2.0, 1.5), "num_protected_tokens"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(core.OptionError, match=message):
        pool_tokens(texts([5], 0)[0], *arguments)


@pytest.mark.parametrize("factor", [np.int64(2), np.float32(2)])
def test_a_factor_may_be_a_number_of_numpy(factor: Any) -> None:
    assert chosen_pooling(factor) == chosen_pooling(2)
    rows = texts([9], 4)[0]
    assert np.array_equal(pool_tokens(rows, factor), pool_tokens(rows, 2))
