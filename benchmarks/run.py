"""Measure every system on the same texts, interleaved, and write JSON, Markdown and plots.

    python -m benchmarks.run              # about 40 minutes on 2 cores
    python -m benchmarks.run --quick      # at most 20
    python -m benchmarks.run --only 'onnx|torch' --rounds 3
    python -m benchmarks.run --sections scaling

Every system keeps a process of its own for the whole run, and rounds go A B C, B C A, ...: what
else the machine does then hits all of them alike. Only ratios within one run mean something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, texts
from benchmarks.process import Worker, WorkerFailedError, cold_start, installed_size
from benchmarks.systems import REFERENCE, WORK, System, all_systems, prepare_model

SECTIONS = ("throughput", "latency", "startup", "size", "accuracy", "scaling")
# Runtimes let their threads spin for a moment after the work; the next system should not pay.
_PAUSE = 0.25


def say(*words: Any) -> None:
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def rotated(items: Sequence[Any], by: int) -> list[Any]:
    by %= max(len(items), 1)
    return [*items[by:], *items[:by]]


class Bench:
    """The systems' processes, and what has been measured."""

    def __init__(self, systems: Iterable[System], workloads: dict[str, list[str]]) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self.texts = WORK / "texts.json"
        self.texts.write_text(json.dumps(workloads))
        self.workloads = workloads
        self.results: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.systems: dict[str, System] = {}
        for system in systems:
            self._start(system)
        limit = {"kind": "sgemm", "texts": str(self.texts)}
        self.sgemm = Worker(Path(sys.executable), limit, WORK / "logs" / "sgemm.log")

    def _start(self, system: System) -> None:
        say("starting", system.name)
        spec = {**system.spec, "texts": str(self.texts)}
        try:
            worker = Worker(system.interpreter, spec, self._log(system.name))
        except WorkerFailedError as error:
            self.fail(system.name, error)
            return
        self.workers[system.name] = worker
        self.systems[system.name] = system
        self.results[system.name] = {
            "precision": system.precision,
            "ours": system.ours,
            "seconds": {name: [] for name in self.workloads},
            "latency": [],
            "memory_loaded": worker.ready["memory"]["now"],
        }

    def _log(self, name: str) -> Path:
        return WORK / "logs" / f"{name.replace(' ', '-')}.log"

    def fail(self, name: str, error: Exception) -> None:
        say(name, "FAILED:", str(error)[-600:])
        self.failures[name] = str(error)[-2_000:]
        self.workers.pop(name, None)
        self.results.pop(name, None)

    def each(self, turn: int, act: Callable[[str, Worker], None]) -> None:
        """Let every system act once, starting with another one each turn."""
        for name in rotated(list(self.workers), turn):
            time.sleep(_PAUSE)
            try:
                act(name, self.workers[name])
            except WorkerFailedError as error:
                self.fail(name, error)

    def agreement(self) -> None:
        """Minimum and mean cosine of each system's embeddings to the reference's."""
        found: dict[str, Any] = {}

        def save(name: str, worker: Worker) -> None:
            file = WORK / "embeddings.npy"
            worker.ask(do="save", workload="mixed", file=str(file))
            rows = np.load(file).astype(np.float64)
            found[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            worker.ask(do="encode", workload="short")  # warms up every shape of thread pool

        self.each(0, save)
        reference = found.get(REFERENCE)
        for name, rows in found.items():
            if reference is not None:
                cosines = (rows * reference).sum(axis=1)
                self.results[name]["cosine"] = {
                    "min": float(cosines.min()),
                    "mean": float(cosines.mean()),
                }

    def throughput(self, rounds: int) -> None:
        self.peaks: dict[str, list[float]] = {name: [] for name in self.workloads}
        for turn in range(rounds):
            for workload in self.workloads:
                say(f"round {turn + 1} of {rounds}: {workload}")
                time.sleep(_PAUSE)
                self.peaks[workload].append(self.sgemm.ask(do="value")["value"])

                def measure(name: str, worker: Worker, workload: str = workload) -> None:
                    seconds = worker.ask(do="encode", workload=workload)["seconds"]
                    self.results[name]["seconds"][workload].append(seconds)

                self.each(turn, measure)

    def latency(self, rounds: int, count: int) -> None:
        for turn in range(rounds):
            say(f"latency, round {turn + 1} of {rounds}")

            def measure(name: str, worker: Worker) -> None:
                answer = worker.ask(do="latency", workload="short", count=count)
                # The first calls wake threads and fill caches that a busy server has filled.
                self.results[name]["latency"].append(answer["seconds"][3:])

            self.each(turn, measure)

    def memory(self) -> None:
        def measure(name: str, worker: Worker) -> None:
            self.results[name]["memory"] = worker.ask(do="memory")["memory"]

        self.each(0, measure)

    def close(self) -> None:
        for worker in [*self.workers.values(), self.sgemm]:
            worker.close()

    def startup(self, rounds: int) -> None:
        for turn in range(rounds):
            say(f"cold start, round {turn + 1} of {rounds}")
            for name in rotated(list(self.results), turn):
                system = self.systems[name]
                seconds = cold_start(system.interpreter, system.spec, self._log("cold start"))
                self.results[name].setdefault("cold_start", []).append(seconds)

    def sizes(self) -> None:
        for name, result in self.results.items():
            system = self.systems[name]
            needs = list(system.distributions)
            result["installed"] = installed_size(system.interpreter, needs, self._log("size"))


def flops(workloads: dict[str, list[str]]) -> dict[str, float]:
    """Useful operations of each workload."""
    import core

    model = prepare_model()
    tokenizer = core.load(model, backend="onnx", file_name="onnx/model.onnx").tokenizer
    return {
        name: machine.useful_flops(model, tokenizer.encode(rows).lengths.tolist())
        for name, rows in workloads.items()
    }


def summarise(result: dict[str, Any], workloads: dict[str, list[str]]) -> None:
    """Medians into each system's results."""
    reference = result["systems"].get(REFERENCE, {}).get("seconds", {})
    for entry in result["systems"].values():
        entry["texts_per_second"], entry["ratio"], entry["peak_share"] = {}, {}, {}
        for name, seconds in entry["seconds"].items():
            if not seconds:
                continue
            entry["texts_per_second"][name] = len(workloads[name]) / statistics.median(seconds)
            if reference.get(name):
                pairs = zip(reference[name], seconds, strict=True)
                entry["ratio"][name] = statistics.median(theirs / own for theirs, own in pairs)
            shares = [
                result["flops"][name] / second / (peak * 1e9)
                for second, peak in zip(seconds, result["sgemm_gflops"][name], strict=True)
            ]
            entry["peak_share"][name] = statistics.median(shares)
        calls = [second for turn in entry["latency"] for second in turn]
        if calls:
            entry["latency_ms"] = {
                "p50": 1e3 * float(np.percentile(calls, 50)),
                "p99": 1e3 * float(np.percentile(calls, 99)),
            }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half the texts, less scaling")
    parser.add_argument("--only", default="", help="regular expression on the systems' names")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 7, quick 5)")
    parser.add_argument("--scale", type=float, help="how many texts, 1.0 for all")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("results"),
        help="folder for the results",
    )
    given = parser.parse_args(arguments)
    rounds = given.rounds or (5 if given.quick else 7)
    scale = given.scale or (0.33 if given.quick else 1.0)
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "benchmark.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    started = time.time()
    load = machine.load_average()
    if load > 0.3:
        say(f"the machine is busy (load {load:.2f}): ratios hold, speeds do not")
    systems, unavailable = all_systems(given.only)
    for name, why in unavailable.items():
        say(name, "cannot be measured:", why)
    if set(given.sections) & {"throughput", "latency", "startup", "size"}:
        workloads = texts.workloads(scale)
        bench = Bench(systems, workloads)
        result |= {
            "machine": machine.describe(),
            "load_before": load,
            "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
            "rounds": rounds,
            "texts": {name: len(rows) for name, rows in workloads.items()},
            "flops": flops(workloads),
            "systems": bench.results,
            "failures": bench.failures | unavailable,
        }
        bench.agreement()
        bench.throughput(rounds if "throughput" in given.sections else 1)
        result["sgemm_gflops"] = bench.peaks
        if "latency" in given.sections:
            bench.latency(rounds, 23 if given.quick else 43)
        bench.memory()
        bench.close()
        if "startup" in given.sections:
            bench.startup(1 if given.quick else 7)
        if "size" in given.sections:
            bench.sizes()
        summarise(result, workloads)
        result["minutes"] = (time.time() - started) / 60
        file.write_text(json.dumps(result, indent=1))
    if "accuracy" in given.sections:
        from benchmarks.accuracy import spearman_on_sick

        result["sick"] = spearman_on_sick(
            [s for s in systems if s.ours and (s.precision == "int8" or s.name == "core onnx fp32")]
        )
    if "scaling" in given.sections:
        from benchmarks.scaling import scaling

        result["scaling"] = scaling(quick=given.quick, say=say)
    result["minutes"] = (time.time() - started) / 60
    file.write_text(json.dumps(result, indent=1))
    from benchmarks.report import RESULTS, update_page, write_report

    write_report(result, given.output)
    if given.output.resolve() == RESULTS:
        update_page(result, given.output)
    say(f"{result['minutes']:.1f} minutes; {given.output}/benchmark.md")
    return 1 if result.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
