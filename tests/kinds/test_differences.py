"""What scripts/kinds_parity.py calls a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.kinds_parity import differences
from tests.kinds.test_recorded import recorded, rows_of

Results = dict[str, NDArray[Any]]


def changed(name: str, **arrays: NDArray[Any]) -> Results:
    return {**recorded(name), **{key.replace("__", "."): value for key, value in arrays.items()}}


@pytest.mark.parametrize(
    "name", ["reranker-labels", "reranker-bert", "splade", "colbert", "bge-m3"]
)
def test_equal_results_do_not_differ(name: str) -> None:
    assert not differences(recorded(name), recorded(name))


def test_scores_apart_and_in_another_order() -> None:
    theirs = recorded("reranker-bert")
    shifted = changed("reranker-bert", scores=theirs["scores"] + np.float32(2e-4))
    assert differences(shifted, theirs) == ["scores: 2.0e-04 apart"]
    assert not differences(changed("reranker-bert", scores=theirs["scores"] + 5e-5), theirs)
    close = np.array([0.5, 0.50004], np.float32)
    found = differences({"scores": close[::-1]}, {"scores": close})
    assert found == ["scores: another ranking from place 0"]
    short = changed("reranker-bert", scores=theirs["scores"][:-1])
    assert differences(short, theirs) == ["scores: shape (7,), not (8,)"]
    unknown = changed("reranker-bert", scores=theirs["scores"] * np.nan)
    assert len(differences(unknown, theirs)) == 1


def test_a_label_in_another_order() -> None:
    close = np.array([[0.5, 0.1], [0.50004, 0.2]], np.float32)
    swapped = close.copy()
    swapped[:, 0] = close[::-1, 0]
    assert len(differences({"scores": swapped}, {"scores": close})) == 1


def test_another_dimension_or_value() -> None:
    theirs = recorded("splade")
    rows = rows_of(theirs, "document")
    values = rows.values.copy()
    values[3] += 2e-4
    other = changed("splade", document__values=values)
    assert differences(other, theirs) == ["document: 2.0e-04 apart"]
    fewer = rows.top(20)
    left_out = changed(
        "splade",
        document__indptr=fewer.indptr,
        document__indices=fewer.indices,
        document__values=fewer.values,
    )
    assert "dimensions of one side alone" in differences(left_out, theirs)[0]
    missing = {key: value for key, value in theirs.items() if not key.startswith("query")}
    assert differences(missing, theirs)[0].startswith("query: no query.")


def test_turned_vectors_and_other_numbers_of_them() -> None:
    theirs = recorded("colbert")
    vectors = theirs["document.vectors"].astype(np.float32)
    vectors[5] = np.roll(vectors[5], 1)
    found = differences(changed("colbert", document__vectors=vectors), theirs)
    assert len(found) == 1
    assert found[0].startswith("document: minimum cosine")
    lengths = theirs["document.lengths"].copy()
    lengths[:2] += [1, -1]
    found = differences(changed("colbert", document__lengths=lengths), theirs)
    assert "vectors, not" in found[0]
