"""Speed by batch budget and by number of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import texts
from benchmarks.checkpoints import prepare_model
from benchmarks.loaded import loaded
from benchmarks.progress import say
from core.tuning.measure import Budget, interleaved

_WORKERS = (1, 2)


def batching(
    budget: Budget, *, most: int, least: int, scale: float, budgets: Sequence[int]
) -> dict[str, Any]:
    """Texts per second of mixed lengths for every backend, `batch_tokens` and `workers`."""
    rows = texts.workloads(scale)["mixed"]
    failures: dict[str, str] = {}
    with loaded(prepare_model(), failures) as models:
        acts: dict[tuple[str, int, int], Callable[[int], Any]] = {
            (backend, workers, tokens): partial(_encode, model, rows, tokens, workers)
            for backend, model in models.items()
            for workers in _WORKERS
            if workers <= model.runtime.max_workers
            for tokens in budgets
        }
        say(f"batching: {len(acts)} combinations, {least} to {most} rounds of {len(rows)} texts")
        found = interleaved(acts, rounds=most, least=least, warm_up=0, budget=budget)
    return {
        "texts": len(rows),
        "rounds": max((len(timing.seconds) for timing in found.values()), default=0),
        "rows": [
            {
                "backend": backend,
                "workers": workers,
                "budget": tokens,
                "texts_per_second": len(rows) / timing.median,
            }
            for (backend, workers, tokens), timing in found.items()
        ],
        "failures": failures,
    }


def _encode(model: Any, rows: list[str], tokens: int, workers: int, round_number: int) -> None:
    model.encode(rows, batch_tokens=tokens, workers=workers)
