"""Systems with models of one size, loaded at the same time and measured in turns."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import texts
from benchmarks.model_files import WORK
from benchmarks.process import PAUSE, Worker, WorkerFailedError
from benchmarks.progress import say
from benchmarks.quality import Task
from benchmarks.systems import REFERENCE, System
from benchmarks.todo import ToDo
from core.engine.similarity import similarity_pairwise
from core.tuning.measure import rotated

#: A pass may take so many times as long as the reference's; slower systems get fewer texts.
_SLOWEST = 4.0
#: Seconds of the reference's pass from which half the rounds are enough: long ones vary less.
_LONG_PASS = 4.0
#: Seconds of a pass up to which one more warms everything up: every shape, and the sessions that
#: only many texts at once open, which takes ten seconds for large models.
_WARM = 15.0
#: A first pass of so many seconds is hardly longer for what the first use of anything takes.
_SETTLED = 15.0
#: Seconds for one command of a system, at most.
_DEADLINE = 600.0


@dataclass(frozen=True)
class _Pass:
    """Which texts of a length a system embeds in a round, and about how many seconds that takes.

    Attributes:
        once: Whether even one text takes so long that one round has to do.
    """

    rows: list[int]
    seconds: float
    once: bool = False


class Group:
    """Some systems of one size, loaded at the same time beside the reference."""

    def __init__(self, of: ToDo, systems: Mapping[str, System], given: Sequence[Task]) -> None:
        self.of = of
        self.systems = systems
        self.given = given
        self.rows = {length: texts.mix(length, count) for length, count in of.counts.items()}
        self.workers: dict[str, Worker] = {}

    def measure(self) -> None:
        of = self.of
        given = WORK / "texts" / f"grid-{of.size.name}.json"
        given.parent.mkdir(parents=True, exist_ok=True)
        given.write_text(json.dumps(self.rows))
        with ExitStack() as stack:
            for name, system in self.systems.items():
                of.check_time()
                say(f"{of.size.name}: loading {name}")
                try:
                    worker = Worker(
                        system.interpreter,
                        {**system.spec, "texts": str(given)},
                        WORK / "logs" / f"{of.size.name}-{name.replace(' ', '-')}.log",
                        self._deadline(),
                    )
                except WorkerFailedError as error:
                    self._fail(name, error)
                    continue
                self.workers[name] = stack.enter_context(worker)
                of.record.forget_failures(of.size.name, name)
            for length, batch in of.workloads():
                if REFERENCE in self.workers:
                    self._speed(length, batch)
            for task in self.given:
                if REFERENCE in self.workers:
                    self._quality(task)

    def _deadline(self) -> float:
        self.of.check_time()
        return min(_DEADLINE, self.of.budget.left)

    def _ask(self, name: str, **command: Any) -> Any:
        try:
            return self.workers[name].ask(deadline=self._deadline(), **command)
        except WorkerFailedError as error:
            self._fail(name, error)
            return None

    def _fail(self, name: str, error: Exception) -> None:
        self.of.check_time()  # what the time's end broke off has not failed
        self.of.fail(name, error)
        self.workers.pop(name, None)

    def _speed(self, length: str, batch: int | None) -> None:
        """One cell of each system that lacks it, and of the reference in the same rounds."""
        of = self.of
        wanted = [
            name
            for name in self.workers
            if name == REFERENCE or (length, batch) in of.missing(name)
        ]
        if wanted == [REFERENCE] and (length, batch) not in of.missing(REFERENCE):
            return
        say(f"{of.size.name}: {length} texts, {batch or 'own'} in a batch, {len(wanted)} systems")
        first = self._warmed(REFERENCE, length, batch, math.inf)
        if first is None:
            return
        passes = {
            name: first
            if name == REFERENCE
            else self._warmed(name, length, batch, _SLOWEST * first.seconds)
            for name in wanted
        }
        once = {name for name, found in passes.items() if found is not None and found.once}
        rows = {name: found.rows for name, found in passes.items() if found is not None}
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        rounds = of.plan.rounds if batch is None else of.plan.batch_rounds
        if first.seconds > _LONG_PASS:
            rounds = max(rounds // 2, 1)
        for turn in range(rounds):
            for name in rotated(list(rows), turn):
                if name not in self.workers or not rows[name] or (turn and name in once):
                    continue
                time.sleep(PAUSE)
                found = self._ask(name, do="encode", workload=length, rows=rows[name], batch=batch)
                if found is not None:
                    seconds[name].append(found["seconds"])
        base = seconds.get(REFERENCE, [])
        for name in rows:
            # No texts: too slow to fill a batch in a sensible time.
            wanted_rounds = 0 if not rows[name] else 1 if name in once else rounds
            mine = of.cell(name, length, batch)
            if len(base) < rounds or len(seconds[name]) < wanted_rounds:
                continue
            if of.record.has("speed", *mine):
                continue
            value = {
                "texts": len(rows[name]),
                "seconds": seconds[name],
                "reference": {
                    "texts": len(rows[REFERENCE]),
                    "seconds": base[:1] if name in once else base,
                },
            }
            of.record.put("speed", *mine, value=value)

    def _warmed(self, name: str, length: str, batch: int | None, limit: float) -> _Pass | None:
        """Which texts a system gets: all, or as many as it does in so many seconds."""

        def seconds(rows: list[int]) -> float | None:
            found = self._ask(name, do="encode", workload=length, rows=rows, batch=batch)
            return None if found is None else float(found["seconds"])

        texts_of = self.rows[length]
        some = texts.part(texts_of, 1 / 8, least=1)
        taken = seconds(some)
        foreseen = 0.0 if taken is None else taken * len(texts_of) / len(some)
        if taken is not None and taken < _SETTLED and foreseen > min(limit, _WARM):
            taken = seconds(some)  # the first use of anything may take seconds
        if taken is None:
            return None
        expected = taken * len(texts_of) / len(some)
        rows = texts.part(texts_of, min(limit / expected, 1.0), least=1)
        if batch is not None and len(rows) < batch:
            return _Pass([], 0.0)  # a batch that is not full is another measurement
        expected *= len(rows) / len(texts_of)
        if expected <= _WARM:
            taken = seconds(rows)
            if taken is None:
                return None
            expected = taken
        return _Pass(rows, expected, once=len(rows) == 1 and expected > limit)

    def _quality(self, task: Task) -> None:
        """The figure of each system that lacks it, and how far its embeddings are from fp32's."""
        of = self.of
        wanted = [name for name in self.workers if of.missing_tasks(name, [task])]
        if not wanted:
            return
        folder = WORK / "quality" / str(of.record.content["run"]["key"])
        folder.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^a-z0-9]+", "-", f"{of.size.name} {task.name}".lower())
        given, exact = folder / f"{slug}.json", folder / f"{slug}.npy"
        given.write_text(json.dumps(task.texts))
        if not exact.exists():
            wanted = [REFERENCE, *(name for name in wanted if name != REFERENCE)]
        for name in wanted:
            say(f"{of.size.name}: {task.name}, {name}")
            file = folder / f"{slug}.part.npy"
            if self._ask(name, do="save", texts=str(given), file=str(file)) is None:
                if name == REFERENCE:
                    return
                continue
            rows = np.load(file)
            if name == REFERENCE:
                file.replace(exact)
            else:
                file.unlink()
            cosines = similarity_pairwise(rows, np.load(exact), "cosine")
            value = {
                "value": task.score(rows),
                "texts": len(task.texts),
                "cosine": {"min": float(cosines.min()), "mean": float(cosines.mean())},
            }
            of.record.put("quality", of.size.name, name, task.name, value=value)
