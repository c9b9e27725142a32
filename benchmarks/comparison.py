"""Every system on the same texts, interleaved: throughput, memory, latency, start, size.

Every system keeps a process of its own for the whole run, and rounds go A B C, B C A, ...: what
else the machine does then hits all of them alike. One that fails, or that is slower than the
deadline, is recorded as failed and left out from there on; the others go on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, texts
from benchmarks.checkpoints import prepare_model
from benchmarks.model_files import WORK
from benchmarks.process import PAUSE, Worker, WorkerFailedError, cold_start, installed_size
from benchmarks.progress import say
from benchmarks.systems import REFERENCE, System
from core.tuning.measure import Budget, rotated

_SGEMM = "the matrix product"
_SINGLE = "single"

Section = dict[str, Any]


class Comparison:
    """The systems' processes.

    Attributes:
        workers: The processes that are still there.
        failures: Why the others are not; a section takes what it finds here with it.
    """

    def __init__(self, systems: Iterable[System], workloads: Mapping[str, list[str]]) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self.workloads = workloads
        self.systems = {system.name: system for system in systems}
        self.parts = {
            name: {key: texts.part(rows, system.share) for key, rows in workloads.items()}
            for name, system in self.systems.items()
        }
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, str] = {}
        for system in self.systems.values():
            say("starting", system.name)
            self._start(system.name, system.interpreter, system.spec)

    def _start(self, name: str, interpreter: Path, spec: Mapping[str, Any]) -> None:
        chosen = self.parts.get(name, {})
        file = WORK / "texts" / f"{_slug(name)}.json"
        file.parent.mkdir(exist_ok=True)
        rows = {key: [self.workloads[key][i] for i in part] for key, part in chosen.items()}
        # Single calls are few and short enough for everyone.
        file.write_text(json.dumps({**rows, _SINGLE: self.workloads["short"]}))
        try:
            self.workers[name] = Worker(interpreter, {**spec, "texts": str(file)}, _log(name))
        except WorkerFailedError as error:
            self.fail(name, error)

    def fail(self, name: str, error: Exception) -> None:
        say(name, "FAILED:", str(error)[-600:])
        self.failures[name] = str(error)[-4_000:]
        self.workers.pop(name, None)

    def each(self, turn: int, act: Callable[[str, Worker], None]) -> None:
        """Let every system act once, starting with another one each turn."""
        for name in rotated(list(self.workers), turn):
            time.sleep(PAUSE)
            try:
                act(name, self.workers[name])
            except WorkerFailedError as error:
                self.fail(name, error)

    def peak(self, sgemm: Worker | None) -> float | None:
        """GFLOP/s of a float32 matrix product right now."""
        if sgemm is None or _SGEMM in self.failures:
            return None
        time.sleep(PAUSE)
        try:
            return float(sgemm.ask(do="value")["value"])
        except WorkerFailedError as error:
            self.fail(_SGEMM, error)
            return None

    def sgemm(self) -> Worker | None:
        """A process that multiplies matrices; not one of the systems."""
        self._start(_SGEMM, Path(sys.executable), {"kind": "sgemm"})
        return self.workers.pop(_SGEMM, None)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _log(name: str) -> Path:
    return WORK / "logs" / f"{_slug(name)}.log"


def _entries(systems: Iterable[System], **fields: Callable[[], Any]) -> Section:
    return {
        system.name: {
            "precision": system.precision,
            "ours": system.ours,
            **{key: make() for key, make in fields.items()},
        }
        for system in systems
    }


def throughput(bench: Comparison, budget: Budget, *, most: int, least: int) -> Section:
    """Seconds for each mix of texts, the machine's peak beside them, agreement, memory."""
    running = [bench.systems[name] for name in bench.workers]
    found = _entries(running, seconds=lambda: {name: [] for name in bench.workloads})
    peaks: dict[str, list[float | None]] = {name: [] for name in bench.workloads}
    for name, worker in bench.workers.items():
        found[name]["memory_loaded"] = worker.ready["memory"]["now"]
    _agreement(bench, found)
    sgemm = bench.sgemm()
    rounds = 0
    for turn in budget.rounds(most, least):
        for workload in bench.workloads:
            say(f"throughput, round {turn + 1} of {least} to {most}: {workload}")
            peaks[workload].append(bench.peak(sgemm))

            def measure(name: str, worker: Worker, workload: str = workload) -> None:
                seconds = worker.ask(do="encode", workload=workload)["seconds"]
                found[name]["seconds"][workload].append(seconds)

            bench.each(turn, measure)
        rounds = turn + 1
    if sgemm is not None:
        sgemm.close()

    def remember(name: str, worker: Worker) -> None:
        found[name]["memory"] = worker.ask(do="memory")["memory"]

    bench.each(0, remember)
    counts = _token_counts(bench.workloads)
    for name, entry in found.items():
        parts = bench.parts[name]
        entry["texts"] = {key: len(rows) for key, rows in parts.items()}
        entry["flops"] = {
            key: machine.useful_flops(prepare_model(), [counts[key][i] for i in rows])
            for key, rows in parts.items()
        }
    return {
        "rounds": rounds,
        "texts": {key: len(rows) for key, rows in bench.workloads.items()},
        "characters": texts.LENGTHS,
        "sgemm_gflops": peaks,
        "systems": found,
    }


def _agreement(bench: Comparison, found: Section) -> None:
    """Minimum and mean cosine of each system's embeddings to the reference's."""
    saved: dict[str, Any] = {}

    def save(name: str, worker: Worker) -> None:
        file = WORK / "embeddings.npy"
        worker.ask(do="save", workload="mixed", file=str(file))
        rows = np.load(file).astype(np.float64)
        saved[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        worker.ask(do="encode", workload="short")  # warms up every shape of thread pool

    say("throughput: warming up, comparing the embeddings")
    bench.each(0, save)
    if REFERENCE not in saved or bench.systems[REFERENCE].share != 1:
        return
    for name, rows in saved.items():
        cosines = (rows * saved[REFERENCE][bench.parts[name]["mixed"]]).sum(axis=1)
        found[name]["cosine"] = {"min": float(cosines.min()), "mean": float(cosines.mean())}


def _token_counts(workloads: Mapping[str, list[str]]) -> dict[str, list[int]]:
    """Tokens that the model computes for each text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(prepare_model() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)  # as benchmarks/systems.py cuts it
    return {
        name: [len(row.ids) for row in tokenizer.encode_batch(rows)]
        for name, rows in workloads.items()
    }


def latency(
    bench: Comparison, budget: Budget, *, most: int, least: int, calls: int
) -> dict[str, Any]:
    """Seconds of single calls with one short text, a list for each round."""
    found = _entries((bench.systems[name] for name in bench.workers), seconds=list)
    rounds = 0
    for turn in budget.rounds(most, least):
        say(f"latency, round {turn + 1} of {least} to {most}")

        def measure(name: str, worker: Worker) -> None:
            # The first calls wake threads and fill caches that a busy server has filled.
            answer = worker.ask(do="latency", workload=_SINGLE, count=calls + 3)
            found[name]["seconds"].append(answer["seconds"][3:])

        bench.each(turn, measure)
        rounds = turn + 1
    return {"rounds": rounds, "systems": found}


def startup(
    systems: Iterable[System], budget: Budget, *, most: int, torch_peers: int
) -> dict[str, Any]:
    """Seconds from starting the interpreter to the first embedding, every time a new process."""
    by_name = {system.name: system for system in systems}
    found = _entries(by_name.values(), seconds=list)
    failures: dict[str, str] = {}
    for turn in budget.rounds(most, min(most, 3)):
        say(f"start, round {turn + 1} of {most}")
        for name in rotated(list(by_name), turn):
            system = by_name[name]
            on_torch = system.spec["kind"] == "sentence-transformers"
            if name in failures or (on_torch and turn >= torch_peers):
                continue
            try:
                seconds = cold_start(system.interpreter, system.spec, _log(f"{name} start"))
            except WorkerFailedError as error:
                say(name, "FAILED:", str(error)[-600:])
                failures[name] = str(error)[-4_000:]
            else:
                found[name]["seconds"].append(seconds)
    return {"systems": found, "failures": failures}


def size(systems: Iterable[System]) -> dict[str, Any]:
    """Megabytes of what a user installs for each system."""
    systems = list(systems)
    found, failures = _entries(systems), {}
    known: dict[tuple[Path, tuple[str, ...]], Any] = {}
    for system in systems:
        key = (system.interpreter, system.distributions)
        try:
            if key not in known:
                say("size of", *system.distributions)
                known[key] = installed_size(key[0], list(key[1]), _log(f"{system.name} size"))
        except WorkerFailedError as error:
            failures[system.name] = str(error)[-4_000:]
        else:
            found[system.name] |= known[key]
    return {"systems": found, "failures": failures}
