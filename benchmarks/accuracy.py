"""Spearman correlation with human judgment on the SICK test pairs, where they are at hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.loaded import record
from benchmarks.rounds import say
from benchmarks.systems import ROOT, System

SICK = ROOT.parent / "shared" / "data" / "sick" / "sick_test.tsv"


def spearman_on_sick(systems: Sequence[System], pairs: int | None) -> dict[str, Any]:
    """100 times the rank correlation of each system; none where the data is missing.

    Args:
        pairs: How many of the test pairs, from the first on; None for all.
    """
    found: dict[str, float] = {}
    failures: dict[str, str] = {}
    if not SICK.exists():
        say("accuracy: SICK is not here")
        return {"pairs": 0, "spearman": found, "failures": failures}
    with SICK.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))[:pairs]
    names = {name.lower(): name for name in rows[0]}
    first, second, score = (
        names[next(n for n in names if n in known)]
        for known in (
            ("sentence_a", "sentence1", "sentence_1", "a"),
            ("sentence_b", "sentence2", "sentence_2", "b"),
            ("relatedness_score", "score", "relatedness", "label"),
        )
    )
    judged = ranks(np.array([float(row[score]) for row in rows]))
    for system in systems:
        say("accuracy:", system.name)
        try:
            similar = _similarities(
                system, [[row[column] for row in rows] for column in (first, second)]
            )
        except Exception as error:
            record(failures, system.name, error)
        else:
            found[system.name] = 100 * float(np.corrcoef(judged, ranks(similar))[0, 1])
    return {"pairs": len(rows), "spearman": found, "failures": failures}


def _similarities(system: System, sides: Sequence[list[str]]) -> NDArray[Any]:
    import core

    spec: dict[str, Any] = system.spec
    with core.load(
        spec["path"], backend=spec["backend"], device=spec["device"], file_name=spec["file_name"]
    ) as model:
        first, second = (model.encode(side) for side in sides)
        return model.similarity_pairwise(first, second)


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rank of each value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared
