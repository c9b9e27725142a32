"""Speed by batch budget and by number of workers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import texts
from benchmarks.loaded import loaded
from benchmarks.rounds import Budget, interleaved, say
from benchmarks.systems import prepare_model

_WORKERS = (1, 2)


def batching(
    budget: Budget, *, most: int, least: int, scale: float, budgets: Sequence[int]
) -> dict[str, Any]:
    """Texts per second of mixed lengths for every backend, `batch_tokens` and `workers`."""
    rows = texts.workloads(scale)["mixed"]
    failures: dict[str, str] = {}
    with loaded(prepare_model(), failures) as models:
        acts: dict[tuple[str, int, int], Callable[[], Any]] = {
            (backend, workers, tokens): partial(
                model.encode, rows, batch_tokens=tokens, workers=workers
            )
            for backend, model in models.items()
            for workers in _WORKERS
            if workers <= model.runtime.max_workers
            for tokens in budgets
        }
        say(f"batching: {len(acts)} combinations, {least} to {most} rounds of {len(rows)} texts")
        found = interleaved(acts, budget, most=most, least=least)
    return {
        "texts": len(rows),
        "rounds": max(map(len, found.values()), default=0),
        "rows": [
            {
                "backend": backend,
                "workers": workers,
                "budget": tokens,
                "texts_per_second": len(rows) / statistics.median(seconds),
            }
            for (backend, workers, tokens), seconds in found.items()
        ],
        "failures": failures,
    }
