"""A pool of processes against the model by itself, which uses every core already."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import texts
from benchmarks.loaded import BACKENDS, load, record
from benchmarks.rounds import Budget, interleaved, say
from benchmarks.systems import prepare_model

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
                acts: dict[int, Callable[[], Any]] = {0: partial(model.encode, rows)}
                for count in PROCESSES:
                    pool = stack.enter_context(core.ProcessPool(model, processes=count))
                    pool.encode(rows[: 16 * count])
                    acts[count] = partial(pool.encode, rows)
                say(f"pool: {backend}, {least} to {most} rounds of {len(rows)} texts")
                seconds = interleaved(acts, share, most=most, least=least)
        except Exception as error:
            record(failures, backend, error)
            continue
        for count, times in seconds.items():
            pairs = zip(seconds[0], times, strict=True)
            found.append(
                {
                    "backend": backend,
                    "processes": count,
                    "texts_per_second": len(rows) / statistics.median(times),
                    "ratio": statistics.median(alone / pooled for alone, pooled in pairs),
                    "rounds": len(times),
                }
            )
    return {"texts": len(rows), "rows": found, "failures": failures}
