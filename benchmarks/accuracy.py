"""Spearman correlation with people's judgement on the SICK test pairs, where they are at hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.systems import ROOT, System

SICK = ROOT.parent / "shared" / "data" / "sick" / "sick_test.tsv"


def spearman_on_sick(systems: Sequence[System]) -> dict[str, float]:
    """100 times the rank correlation of each system; empty where the data is missing."""
    if not SICK.exists():
        return {}
    import core

    with SICK.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
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
    found = {}
    for system in systems:
        spec: dict[str, Any] = system.spec
        with core.load(
            spec["path"],
            backend=spec["backend"],
            device=spec["device"],
            file_name=spec["file_name"],
        ) as model:
            a, b = (model.encode([row[column] for row in rows]) for column in (first, second))
            similar = ranks(model.similarity_pairwise(a, b))
        found[system.name] = 100 * float(np.corrcoef(judged, similar)[0, 1])
    return found


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rank of each value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared
