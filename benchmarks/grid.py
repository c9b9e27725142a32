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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts
from benchmarks.cells import Record, key
from benchmarks.group import Group
from benchmarks.model_files import PATIENCE, remove
from benchmarks.plan import GridPlan
from benchmarks.progress import say
from benchmarks.quality import Task, tasks
from benchmarks.sizes import SIZES, Found
from benchmarks.systems import REFERENCE, System
from benchmarks.todo import TimeIsUpError, ToDo
from benchmarks.variants import Variant, variants
from core.tuning.measure import Budget
from scripts.peers import build, versions

#: Gigabytes that stay free, for passes; and those of a process without its model.
_RESERVE, _PROCESS = 3.0, 0.9
#: Gigabytes of disk that measuring a size takes for a while, for each of its float32 weights: a
#: file for each exporter, and those that are measured together.
_DISK = 11
#: A loaded model takes so much of its float32 weights: some runtimes hold packed copies.
_COPIES = 1.6

Systems = Mapping[str, Variant]


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
                _OfSize(ToDo(self.record, self.plan, SIZES[name], self.budget)).measure(self._known)
        except TimeIsUpError:
            say("the time of this section is over; the next run goes on from here")
            return False
        return True


class _OfSize:
    """One size of model."""

    def __init__(self, todo: ToDo) -> None:
        self.todo = todo
        self.size = todo.size

    def measure(self, known: Systems) -> None:
        pending = [name for name in known if self.todo.is_pending(name)]
        if not pending:
            return
        say("size", self.size.name)
        try:
            self._measure(known, pending)
        finally:
            self._note()

    def _measure(self, known: Systems, pending: Sequence[str]) -> None:
        found = self.size.find()
        if not self._has_room(found.folder):
            return
        given = self._tasks(found)
        self._describe(found)
        room = group_size(self.size.weights, available_gigabytes())
        first = True
        pending = [name for name in pending if name != REFERENCE]
        while pending or (first and self.todo.is_pending(REFERENCE)):
            first = False
            group = self._prepared(found, REFERENCE, known)
            if not group:
                return  # nothing to divide by; why, stands in the record
            taken = []
            while pending and len(group) < room:
                taken.append(pending.pop(0))
                group |= self._prepared(found, taken[-1], known)
            Group(self.todo, group, given).measure()
            if not self.size.keeps_files:
                later = [known[name].recipe for name in pending]
                remove(found.folder, [known[name].recipe for name in taken], later)

    def _has_room(self, folder: Path) -> bool:
        free, needed = shutil.disk_usage(folder).free / 1e9, _DISK * self.size.weights
        if free < needed and not self.size.keeps_files:
            error = OSError(f"needs {needed:.0f} GB of disk for a while, {free:.0f} GB are free")
            self.todo.fail(REFERENCE, error)
            return False
        return True

    def _tasks(self, found: Found) -> list[Task]:
        if not found.real or not self.todo.plan.quality:
            return []
        size = self.size
        pairs = _part(size.pairs, self.todo.plan.pairs)
        return tasks(pairs, _part(size.queries, self.todo.plan.queries))

    def _describe(self, found: Found) -> None:
        texts_of = {length: texts.mix(length, count) for length, count in self.todo.counts.items()}
        value = {
            "title": found.title,
            "real": found.real,
            "texts": self.todo.counts,
            "characters": {k: sum(map(len, rows)) / len(rows) for k, rows in texts_of.items()},
            "tokens": _tokens(found.folder, texts_of),
            "tasks": [task.name for task in self._tasks(found)],
        }
        self.todo.record.put("sizes", self.size.name, value=value)
        self._note()

    def _note(self) -> None:
        """By which run the size is measured, and what that lacks: neither measured nor failed."""
        record = self.todo.record
        size = record.content["sizes"].get(self.size.name)
        if size is None:
            return  # it was not begun
        missing = [
            name
            for name in variants()
            if self.todo.is_pending(name)
            and key(self.size.name, name) not in record.content["failures"]
        ]
        value = {
            **size,
            "run": {k: v for k, v in record.content["run"].items() if k != "machine"},
            "missing": missing,
        }
        record.put("sizes", self.size.name, value=value)

    def _prepared(self, found: Found, name: str, known: Systems) -> dict[str, System]:
        """The system by its name, if its file is there or can be made."""
        self.todo.check_time()
        variant = known[name]
        environment = variant.recipe.environment
        try:
            if environment:
                build(environment)
            say(f"{self.size.name}: the file of {name}")
            patience = max(min(PATIENCE, self.todo.budget.left), 1.0)
            system = variant.prepare(found.folder, patience)
        except Exception as error:
            self.todo.check_time()  # what the time's end broke off has not failed
            self.todo.fail(name, error)
            return {}
        about: dict[str, Any] = {"ours": variant.ours, "precision": variant.precision}
        if environment:
            about |= {"versions": _versions(environment)}
        self.todo.record.put("systems", name, value=about)
        return {name: system}


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
