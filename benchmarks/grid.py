"""Speed and quality of every variant on models of four sizes, against sentence-transformers.

For each size, as many systems as the memory holds are loaded beside the reference, each in its own
process, and take turns on the same texts: a round's ratio compares two passes that are seconds
apart. Speed is measured with texts of three lengths and each system's own batches, and with given
numbers of texts in a batch. Quality needs real weights and data with human judgments. Every cell is
written down as soon as it is measured (benchmarks/cells.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts
from benchmarks.cells import Record
from benchmarks.model_files import PATIENCE, WORK, remove
from benchmarks.plan import GridPlan
from benchmarks.process import PAUSE, Worker, WorkerFailedError
from benchmarks.progress import say
from benchmarks.quality import Task, tasks
from benchmarks.sizes import SIZES, Found, Size
from benchmarks.systems import REFERENCE, System
from benchmarks.variants import Variant, variants
from core.engine.similarity import similarity_pairwise
from core.tuning.measure import Budget, rotated
from scripts.peers import build, versions

#: A pass may take so many times as long as the reference's; slower systems get fewer texts.
_SLOWEST = 4.0
#: Gigabytes that stay free, for passes; and those of a process without its model.
_RESERVE, _PROCESS = 3.0, 0.9
#: Gigabytes of disk that measuring a size takes for a while, for each of its float32 weights: a
#: file for each exporter, and those that are measured together.
_DISK = 11
#: A loaded model takes so much of its float32 weights: some runtimes hold packed copies.
_COPIES = 1.6
#: Seconds for one command of a system, at most.
_DEADLINE = 600.0

Systems = Mapping[str, Variant]


class TimeIsUpError(Exception):
    """The run's time is over; what is missing is left to the next one."""


class Grid:
    """One run over sizes and variants.

    Args:
        only: A regular expression on the systems' names; the reference is always there.
    """

    def __init__(self, record: Record, plan: GridPlan, only: str, budget: Budget) -> None:
        self.record = record
        self.plan = plan
        self.budget = budget
        self._known = {
            name: variant
            for name, variant in variants().items()
            if name == REFERENCE or re.search(only, name)
        }

    def measure(self) -> bool:
        """Everything that is missing; False if the time was over before."""
        try:
            for name in self.plan.sizes:
                _OfSize(self, SIZES[name]).measure(self._known)
        except TimeIsUpError:
            say("the time of this section is over; the next run goes on from here")
            return False
        return True


class _OfSize:
    """One size of model."""

    def __init__(self, grid: Grid, size: Size) -> None:
        self.record, self.plan, self.budget = grid.record, grid.plan, grid.budget
        self.size = size
        self.counts = {
            length: max(round(count * grid.plan.scale), 2) for length, count in size.texts.items()
        }

    # What is missing.

    def workloads(self) -> Iterator[tuple[str, int | None]]:
        """Length of the texts, and texts in a batch; None for a system's own choice."""
        yield from ((length, None) for length in self.counts)
        for batch in self.plan.batches:
            for length, count in self.counts.items():
                if length != "long" and count >= batch:
                    yield length, batch

    def missing(self, name: str) -> list[tuple[str, int | None]]:
        return [
            (length, batch)
            for length, batch in self.workloads()
            if not self.record.has("speed", *self.cell(name, length, batch))
        ]

    def cell(self, name: str, length: str, batch: int | None) -> tuple[str, ...]:
        return self.size.name, name, length, "default" if batch is None else str(batch)

    def missing_tasks(self, name: str, known: Sequence[Task]) -> list[Task]:
        return [
            task
            for task in known
            if not self.record.has("quality", self.size.name, name, task.name)
        ]

    # The groups.

    def measure(self, known: Systems) -> None:
        pending = [name for name in known if self._is_pending(name)]
        if not pending:
            return
        say("size", self.size.name)
        found = self.size.find()
        if not self._has_room(found.folder):
            return
        given = self._tasks(found)
        self._describe(found)
        room = group_size(self.size.weights, available_gigabytes())
        first = True
        pending = [name for name in pending if name != REFERENCE]
        while pending or (first and self._is_pending(REFERENCE)):
            first = False
            group = self._prepared(found, REFERENCE, known)
            if not group:
                return  # nothing to divide by; why, stands in the record
            taken = []
            while pending and len(group) < room:
                taken.append(pending.pop(0))
                group |= self._prepared(found, taken[-1], known)
            _Group(self, found, group, given).measure()
            if not self.size.keeps_files:
                later = [known[name].recipe for name in pending]
                remove(found.folder, [known[name].recipe for name in taken], later)

    def _is_pending(self, name: str) -> bool:
        described = self.record.content["sizes"].get(self.size.name)
        if described is None or self.missing(name):
            return True
        known = described["tasks"]
        return not all(self.record.has("quality", self.size.name, name, task) for task in known)

    def _has_room(self, folder: Path) -> bool:
        free, needed = shutil.disk_usage(folder).free / 1e9, _DISK * self.size.weights
        if free < needed and not self.size.keeps_files:
            error = OSError(f"needs {needed:.0f} GB of disk for a while, {free:.0f} GB are free")
            self.fail(REFERENCE, error)
            return False
        return True

    def _tasks(self, found: Found) -> list[Task]:
        if not found.real or not self.plan.quality:
            return []
        size = self.size
        pairs = _part(size.pairs, self.plan.pairs)
        return tasks(pairs, _part(size.queries, self.plan.queries))

    def _describe(self, found: Found) -> None:
        texts_of = {length: texts.mix(length, count) for length, count in self.counts.items()}
        value = {
            "title": found.title,
            "real": found.real,
            "texts": self.counts,
            "characters": {k: sum(map(len, rows)) / len(rows) for k, rows in texts_of.items()},
            "tokens": _tokens(found.folder, texts_of),
            "tasks": [task.name for task in self._tasks(found)],
        }
        self.record.put("sizes", self.size.name, value=value)

    def _prepared(self, found: Found, name: str, known: Systems) -> dict[str, System]:
        """The system by its name, if its file is there or can be made."""
        self.check_time()
        variant = known[name]
        environment = variant.recipe.environment
        try:
            if environment:
                build(environment)
            say(f"{self.size.name}: the file of {name}")
            patience = max(min(PATIENCE, self.budget.left), 1.0)
            system = variant.prepare(found.folder, patience)
        except Exception as error:
            self.check_time()  # what the time's end broke off has not failed
            self.fail(name, error)
            return {}
        about: dict[str, Any] = {"ours": variant.ours, "precision": variant.precision}
        if environment:
            about |= {"versions": _versions(environment)}
        self.record.put("systems", name, value=about)
        return {name: system}

    def fail(self, name: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[-2_000:]
        say(self.size.name, name, "FAILED:", reason[-600:])
        self.record.put("failures", self.size.name, name, value={"reason": reason})

    def check_time(self) -> None:
        if self.budget.left <= 0:
            raise TimeIsUpError


class _Group:
    """Some systems of one size, loaded at the same time beside the reference."""

    def __init__(
        self, of: _OfSize, found: Found, systems: Mapping[str, System], given: Sequence[Task]
    ) -> None:
        self.of = of
        self.found = found
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
        rows = self._shares(wanted, length, batch)
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        rounds = of.plan.rounds if batch is None else of.plan.batch_rounds
        for turn in range(rounds):
            for name in rotated(list(rows), turn):
                if name not in self.workers or not rows[name]:
                    continue
                time.sleep(PAUSE)
                found = self._ask(name, do="encode", workload=length, rows=rows[name], batch=batch)
                if found is not None:
                    seconds[name].append(found["seconds"])
        base = seconds.get(REFERENCE, [])
        for name in rows:
            # No texts: too slow to fill a batch in a sensible time.
            wanted_rounds = rounds if rows[name] else 0
            mine = of.cell(name, length, batch)
            if len(base) < rounds or len(seconds[name]) < wanted_rounds:
                continue
            if of.record.has("speed", *mine):
                continue
            value = {
                "texts": len(rows[name]),
                "seconds": seconds[name],
                "reference": {"texts": len(rows[REFERENCE]), "seconds": base},
            }
            of.record.put("speed", *mine, value=value)

    def _shares(self, names: Sequence[str], length: str, batch: int | None) -> dict[str, list[int]]:
        """Which texts each system gets: all of them, or as many as a slow one does in time.

        The passes that this takes warm every system up.
        """
        count = len(self.rows[length])
        shares: dict[str, list[int]] = {}
        limit = 0.0
        for name in sorted(names, key=lambda name: name != REFERENCE):
            every = list(range(count))
            some = texts.part(self.rows[length], 1 / 8, least=1)
            taken = every if name == REFERENCE else some
            if self._ask(name, do="encode", workload=length, rows=some, batch=batch) is None:
                continue
            found = self._ask(name, do="encode", workload=length, rows=taken, batch=batch)
            if found is None:
                continue
            if name == REFERENCE:
                limit = _SLOWEST * found["seconds"]
            expected = found["seconds"] * count / len(taken)
            share = min(limit / expected, 1.0) if expected else 1.0
            shares[name] = texts.part(self.rows[length], share, least=1)
            if batch is not None and len(shares[name]) < batch:
                shares[name] = []  # a batch that is not full is another measurement
        return {name: shares[name] for name in names if name in shares}

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


def _part(own: int | None, planned: int | None) -> int | None:
    return min((n for n in (own, planned) if n is not None), default=None)


def _tokens(folder: Path, rows: Mapping[str, list[str]]) -> dict[str, float]:
    """Mean tokens that the model computes for a text of each length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    limit = json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"]
    tokenizer.enable_truncation(limit)
    return {
        name: float(np.mean([len(found.ids) for found in tokenizer.encode_batch(texts_of)]))
        for name, texts_of in rows.items()
    }


def _versions(environment: str) -> dict[str, str]:
    told = ("sentence-transformers", "transformers", "torch", "onnxruntime", "openvino")
    return {name: found for name, found in versions(environment).items() if name in told}


def available_gigabytes() -> float:
    """Memory that new processes may have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024 / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9


def group_size(weights: float, available: float) -> int:
    """How many systems with so many gigabytes of float32 weights fit at once; at least 2."""
    each = _PROCESS + _COPIES * weights
    return max(int((available - _RESERVE) / each), 2)
