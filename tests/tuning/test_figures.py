"""Fidelity, quality and timing against definitions written down independently, and scipy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from core.engine.ranks import spearman
from core.tuning.fidelity import compare
from core.tuning.labels import (
    Pairs,
    Retrieval,
    pairs_quality,
    read_labels,
    retrieval_quality,
)
from core.tuning.measure import Budget, Timing, interleaved, rotated, spread
from core.tuning.texts import chunks_of

Floats = NDArray[np.float32]


def rows(count: int, dimension: int = 16, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def drifted(reference: Floats, by: float, seed: int = 1) -> Floats:
    return reference + np.float32(by) * rows(len(reference), reference.shape[1], seed)


def unit(values: Floats) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    lengths: NDArray[np.float64] = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return wide / lengths


def neighbours(queries: Floats, documents: Floats, k: int) -> list[set[int]]:
    found = []
    for number, row in enumerate(unit(queries) @ unit(documents).T):
        row[number] = -np.inf
        found.append(set(np.argsort(-row)[:k].tolist()))
    return found


def test_equal_embeddings_have_no_drift() -> None:
    reference = rows(100)
    fidelity = compare(reference, reference.copy(), "cosine")
    assert fidelity.min_cosine == pytest.approx(1)
    assert (fidelity.recall_at_10, fidelity.mixed_recall_at_10) == (1, 1)
    assert list(fidelity.recall_interval) == [1, 1]
    assert fidelity.spearman == pytest.approx(1)


@pytest.mark.parametrize("count", [12, 60, 300])
def test_cosines_and_recall_by_their_definitions(count: int) -> None:
    reference = rows(count)
    found = drifted(reference, 0.3)
    fidelity = compare(reference, found, "cosine")
    cosines = (unit(reference) * unit(found)).sum(axis=1)
    assert fidelity.texts == count
    assert fidelity.mean_cosine == pytest.approx(cosines.mean())
    assert fidelity.p1_cosine == pytest.approx(np.percentile(cosines, 1))
    assert fidelity.min_cosine == pytest.approx(cosines.min())
    k = min(10, (count - 1) // 2)
    expected = neighbours(reference, reference, k)
    anew = neighbours(found, found, k)
    kept = neighbours(found, reference, k)
    recall = np.mean([len(a & b) / k for a, b in zip(expected, anew, strict=True)])
    mixed = np.mean([len(a & b) / k for a, b in zip(expected, kept, strict=True)])
    assert fidelity.recall_at_10 == pytest.approx(recall)
    assert fidelity.mixed_recall_at_10 == pytest.approx(mixed)
    low, high = fidelity.recall_interval
    assert low < fidelity.recall_at_10 < high


def test_spearman_of_all_pairs_is_scipys() -> None:
    reference = rows(80)
    found = drifted(reference, 0.5)
    place = np.triu_indices(80, 1)
    pairs = [(unit(side) @ unit(side).T)[place] for side in (reference, found)]
    expected = scipy.stats.spearmanr(*pairs).statistic
    assert compare(reference, found, "cosine").spearman == pytest.approx(expected, abs=1e-5)


def test_spearman_of_ties_is_scipys() -> None:
    choose = np.random.default_rng(3)
    first, second = choose.integers(0, 5, 200) / 1, choose.integers(0, 7, 200) / 1
    expected = scipy.stats.spearmanr(first, second).statistic
    assert spearman(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("function", ["cosine", "dot", "euclidean", "manhattan"])
def test_a_neighbour_is_what_the_model_compares_with(function: str) -> None:
    reference = rows(50) * np.linspace(0.5, 3, 50, dtype=np.float32)[:, None]
    longer = reference * np.linspace(4, 0.1, 50, dtype=np.float32)[:, None]
    recall = compare(reference, longer, function).recall_at_10
    assert (recall == 1) is (function == "cosine")


def ndcg(relevance: NDArray[np.float64], scores: NDArray[np.float64], k: int = 10) -> float:
    """scikit-learn's definition, where no two scores are equal."""

    def gain(order: NDArray[np.intp]) -> float:
        gains = [relevance[place] / np.log2(rank + 2) for rank, place in enumerate(order[:k])]
        return float(sum(gains))

    return gain(np.argsort(-scores)) / gain(np.argsort(-relevance))


def test_retrieval_quality_is_mean_ndcg() -> None:
    documents, queries = rows(40), rows(5, seed=2)
    choose = np.random.default_rng(4)
    names = [f"d{number}" for number in range(40)]
    judged = {
        f"q{number}": {
            names[int(i)]: float(choose.integers(1, 4)) for i in choose.integers(0, 40, 6)
        }
        for number in range(5)
    }
    retrieval = Retrieval(dict.fromkeys(names, ""), dict.fromkeys(judged, ""), judged)
    expected = []
    for number, found in enumerate(judged.values()):
        relevance = np.array([found.get(name, 0.0) for name in names])
        expected.append(
            ndcg(relevance, (unit(queries[number : number + 1]) @ unit(documents).T)[0])
        )
    found_quality = retrieval_quality(queries, documents, retrieval, "cosine")
    assert found_quality == pytest.approx(np.mean(expected))


def test_pairs_quality_is_spearman_of_similarities() -> None:
    first, second = rows(60), rows(60, seed=5)
    scores = np.random.default_rng(6).integers(0, 6, 60).astype(float)
    expected = scipy.stats.spearmanr((unit(first) * unit(second)).sum(axis=1), scores).statistic
    pairs = Pairs(("",) * 60, ("",) * 60, scores)
    assert pairs_quality(first, second, pairs, "cosine") == pytest.approx(expected, abs=1e-6)


def test_each_round_runs_everything_in_another_order() -> None:
    calls: list[tuple[str, int]] = []

    def act(name: str) -> Callable[[int], None]:
        return lambda turn: calls.append((name, turn))

    timings = interleaved({name: act(name) for name in "abc"}, rounds=3, warm_up=1)
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3, 3]
    by_round = ["".join(calls[i][0] for i in range(start, start + 3)) for start in (0, 3, 6, 9)]
    assert by_round == ["abc", "bca", "cab", "abc"]
    assert [turn for _, turn in calls] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_a_budget_ends_rounds_but_not_before_the_least() -> None:
    timings = interleaved({"a": lambda turn: None}, rounds=50, least=2, budget=Budget(0))
    assert len(timings["a"].seconds) == 2


def test_ratios_compare_within_rounds() -> None:
    slow, fast = Timing((2.0, 4.0, 6.0)), Timing((1.0, 2.0, 3.0))
    ratio = fast.speed_over(slow)
    assert list(ratio.rounds) == [2, 2, 2]
    assert ratio.median == 2
    assert ratio.spread == 0
    assert slow.spread == pytest.approx(0.5)
    assert spread([1.0]) == 0
    assert rotated([1, 2, 3], 4) == [2, 3, 1]


def test_chunks_are_of_equal_numbers() -> None:
    chunks = chunks_of([str(number) for number in range(10)], 4)
    assert [len(chunk) for chunk in chunks] == [3, 4, 3]
    assert [text for chunk in chunks for text in chunk] == [str(number) for number in range(10)]


def test_labels_are_optional() -> None:
    assert not read_labels(None, None, None, None)
