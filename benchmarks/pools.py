"""A pool of processes against the model by itself, which uses every core already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import texts
from benchmarks.checkpoints import prepare_model
from benchmarks.loaded import BACKENDS, load, record
from benchmarks.progress import say
from core.tuning.measure import Budget, interleaved

PROCESSES = (1, 2)


def pools(budget: Budget, *, most: int, least: int, scale: float) -> dict[str, Any]:
    """Texts per second of mixed lengths; the model by itself is 0 processes."""
    import core

    rows = texts.workloads(scale)["mixed"]
    failures: dict[str, str] = {}
    found = []
    for place, backend in enumerate(BACKENDS):
        share = Budget(budget.left / (len(BACKENDS) - place))
        try:
            with ExitStack() as stack:
                model = stack.enter_context(load(prepare_model(), backend))
                model.encode(rows[:16])
                acts: dict[int, Callable[[int], Any]] = {0: partial(_encode, model, rows)}
                for count in PROCESSES:
                    pool = stack.enter_context(core.ProcessPool(model, processes=count))
                    pool.encode(rows[: 16 * count])
                    acts[count] = partial(_encode, pool, rows)
                say(f"pool: {backend}, {least} to {most} rounds of {len(rows)} texts")
                timings = interleaved(acts, rounds=most, least=least, warm_up=0, budget=share)
        except Exception as error:
            record(failures, backend, error)
            continue
        for count, timing in timings.items():
            found.append(
                {
                    "backend": backend,
                    "processes": count,
                    "texts_per_second": len(rows) / timing.median,
                    "ratio": timing.speed_over(timings[0]).median,
                    "rounds": len(timing.seconds),
                }
            )
    return {"texts": len(rows), "rows": found, "failures": failures}


def _encode(model: Any, rows: list[str], round_number: int) -> None:
    model.encode(rows)
