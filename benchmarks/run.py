"""Measure every system on the same texts, interleaved, and write JSON, Markdown and plots.

    python -m benchmarks.run              # about 35 minutes on 2 idle cores, at most 40
    python -m benchmarks.run --quick      # at most 15
    python -m benchmarks.run --only 'onnx|torch' --rounds 3
    python -m benchmarks.run --sections scaling
    python -m benchmarks.run --scale 0.05 --rounds 1 --output DIR   # does everything work?

The first run builds the peers' environments and the models' files, which takes longer. Only ratios
within one run mean something. benchmark.json is written after each section: a run that is broken
off leaves what it has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import accuracy, batching, comparison, lengths, pools, summary, texts, volume
from benchmarks.plan import FULL, QUICK, SCALING, SECTIONS, Plan
from benchmarks.report import update_page, write_report
from benchmarks.results import RESULTS, Results, describe_run, is_complete
from benchmarks.rounds import Budget, say
from benchmarks.systems import System, all_systems


class Run:
    """Each section is a method; systems and their processes are made when one needs them."""

    def __init__(self, plan: Plan, only: str, stack: ExitStack) -> None:
        self.plan = plan
        self._only = only
        self._stack = stack

    def section(self, name: str) -> dict[str, Any]:
        """What it found. Only the first two need the systems' processes; they end after those."""
        if name not in ("throughput", "latency"):
            self._stack.close()
        found: dict[str, Any] = getattr(self, name)()
        return found

    def budget(self, section: str) -> Budget:
        return Budget(self.plan.seconds[section])

    @cached_property
    def systems(self) -> tuple[list[System], dict[str, str]]:
        systems, unavailable = all_systems(self._only, peers=True)
        for name, why in unavailable.items():
            say(name, "cannot be measured:", why)
        return systems, unavailable

    @cached_property
    def bench(self) -> comparison.Comparison:
        systems, _ = self.systems
        bench = comparison.Comparison(systems, texts.workloads(self.plan.scale))
        self._stack.callback(bench.close)
        return bench

    def throughput(self) -> dict[str, Any]:
        bench, plan = self.bench, self.plan
        found = comparison.throughput(
            bench, self.budget("throughput"), most=plan.rounds, least=min(plan.least, plan.rounds)
        )
        summary.summarize_throughput(found)
        return {**found, "failures": self.systems[1] | bench.failures}

    def latency(self) -> dict[str, Any]:
        bench, plan = self.bench, self.plan
        found = comparison.latency(
            bench,
            self.budget("latency"),
            most=plan.rounds,
            least=min(plan.least, plan.rounds),
            calls=plan.calls,
        )
        summary.summarize_latency(found)
        return {**found, "failures": self.systems[1] | bench.failures}

    def startup(self) -> dict[str, Any]:
        systems, unavailable = self.systems
        found = comparison.startup(
            systems,
            self.budget("startup"),
            most=self.plan.starts,
            torch_peers=self.plan.torch_peers,
        )
        return {**found, "failures": unavailable | found["failures"]}

    def size(self) -> dict[str, Any]:
        systems, unavailable = self.systems
        found = comparison.size(systems)
        return {**found, "failures": unavailable | found["failures"]}

    def accuracy(self) -> dict[str, Any]:
        own, unavailable = all_systems(self._only, peers=False)
        chosen = [s for s in own if s.precision == "int8" or s.name == "core onnx fp32"]
        found = accuracy.spearman_on_sick(chosen, self.plan.pairs)
        return {**found, "failures": unavailable | found["failures"]}

    def batching(self) -> dict[str, Any]:
        plan = self.plan
        return batching.batching(
            self.budget("batching"),
            most=plan.rounds,
            least=min(plan.repeats + 1, plan.rounds),
            scale=0.6 * plan.scale,
            budgets=plan.budgets,
        )

    def volume(self) -> dict[str, Any]:
        plan = self.plan
        return volume.volume(
            volume.models(),
            self.budget("volume"),
            most=plan.rounds,
            least=plan.repeats,
            streamed=plan.streamed,
            stream_seconds=plan.stream_seconds,
        )

    def length(self) -> dict[str, Any]:
        plan = self.plan
        return lengths.lengths(
            lengths.model(), self.budget("length"), most=plan.rounds, least=plan.repeats
        )

    def pool(self) -> dict[str, Any]:
        plan = self.plan
        return pools.pools(
            self.budget("pool"),
            most=plan.rounds,
            least=min(plan.repeats + 1, plan.rounds),
            scale=2.4 * plan.scale,
        )


def measure(
    sections: Sequence[str], section: Callable[[str], dict[str, Any]], results: Results
) -> None:
    """Each section, written down at once; the next begins even if it failed as a whole."""
    for name in sections:
        start = time.monotonic()
        say("section", name)
        try:
            found = section(name)
        except Exception as error:
            say(name, "FAILED:", error)
            found = {"failures": {name: f"{type(error).__name__}: {error}"[-2_000:]}}
        minutes = (time.monotonic() - start) / 60
        results.put(name, found, minutes)
        say(f"section {name}: {minutes:.1f} minutes")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK.scale} of the texts, fewer points and rounds"
    )
    parser.add_argument("--only", default="", help="regular expression on the systems' names")
    parser.add_argument("--rounds", type=int, help="exactly so many rounds of everything")
    parser.add_argument("--scale", type=float, help="how many texts, 1.0 for the default")
    parser.add_argument("--minutes", type=float, help="scale the sections' times to this in all")
    parser.add_argument(
        "--stream-minutes",
        type=float,
        help="for each stream through MiniLM, instead of a minute and a half: 17 or more are "
        "enough for 1,000,000 texts in int8",
    )
    parser.add_argument(
        "--sections",
        nargs="+",
        choices=[*SECTIONS, "scaling"],
        default=list(SECTIONS),
        help=f"scaling stands for {', '.join(SCALING)}",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="put the report into docs/performance.md although the run is not a complete one",
    )
    given = parser.parse_args(arguments)
    if given.stream_minutes is not None and not given.stream_minutes > 0:
        parser.error(f"--stream-minutes must be more than 0, not {given.stream_minutes}")
    plan = QUICK if given.quick else FULL
    if given.scale:
        plan = plan.shrunk(given.scale)
    if given.rounds:
        plan = plan.with_rounds(given.rounds)
    if given.minutes:
        plan = plan.within(given.minutes)
    # Longer streams leave a run complete.
    complete = plan == FULL and not given.only and given.sections == list(SECTIONS)
    if given.stream_minutes:
        plan = replace(plan, stream_seconds=60 * given.stream_minutes)
        complete = complete and plan.stream_seconds >= FULL.stream_seconds
    named = [s for n in given.sections for s in (SCALING if n == "scaling" else (n,))]
    sections = [name for name in SECTIONS if name in named]
    chosen = {k: v for k, v in vars(given).items() if k not in ("sections", "output", "write_docs")}
    options = ", ".join(
        name if value is True else f"{name} {value}" for name, value in chosen.items() if value
    )
    results = Results(given.output, describe_run(options, complete=complete))
    if results.run["load_before"] > 0.3:
        say(f"the machine is busy (load {results.run['load_before']:.2f}): speeds do not hold")
    started = time.monotonic()
    with ExitStack() as stack:
        run = Run(plan, given.only, stack)
        measure(sections, run.section, results)
    write_report(results.sections, given.output)
    whole = given.output.resolve() == RESULTS and is_complete(results.sections, SECTIONS)
    if whole or given.write_docs:
        update_page(results.sections, given.output)
    say(f"{(time.monotonic() - started) / 60:.1f} minutes; {given.output}/benchmark.md")
    return 1 if any(results.sections[name]["failures"] for name in sections) else 0


if __name__ == "__main__":
    sys.exit(main())
