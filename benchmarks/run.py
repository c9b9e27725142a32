"""Measure every system on the same texts, interleaved, and write JSON, Markdown and plots.

    python -m benchmarks.run              # hours on 2 idle cores; goes on where it was ended
    python -m benchmarks.run --quick      # under 15 minutes
    python -m benchmarks.run --sections variants --sizes minilm base
    python -m benchmarks.run --only 'onnx|torch' --rounds 3
    python -m benchmarks.run --sections scaling
    python -m benchmarks.run --scale 0.05 --rounds 1 --sizes minilm   # does everything work?

The first run builds the peers' environments, which takes longer. Only ratios within one run mean
something. What was measured is on disk after each section, and after each cell of the variants: the
next run of the same code, libraries, machine and plan measures what is missing.
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

from benchmarks import batching, comparison, lengths, machine, pools, summary, texts, volume
from benchmarks.cells import Record, merged, read_record
from benchmarks.grid import Grid
from benchmarks.libraries import all_systems
from benchmarks.model_files import WORK
from benchmarks.plan import FULL, QUICK, QUICK_SECTIONS, SCALING, SECTIONS, VARIANTS, Plan
from benchmarks.progress import say
from benchmarks.report import is_publishable, update_pages, write_report
from benchmarks.results import RESULTS, Results, describe_run, write_json
from benchmarks.sizes import SIZES
from benchmarks.systems import System
from benchmarks.variants import variants
from core.tuning.measure import Budget
from scripts.peers import build


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
        systems, unavailable = all_systems(self._only)
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
    """Each section, written down at once; the next begins even if it failed as a whole.

    What a run of the same key has measured before is left as it is.
    """
    for name in sections:
        if results.has(name):
            say("section", name, "was measured before: --again measures it anew")
            continue
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


def measure_variants(plan: Plan, only: str, options: str, again: bool) -> Path:
    """The file with every cell that is measured now or was before."""
    # Which sizes and systems, and for how long, does not change a cell.
    full = replace(FULL.grid, sizes=())
    planned = replace(plan.grid, sizes=())
    run = describe_run(options, plan=planned, complete=planned == full)
    file = WORK / "records" / f"{run['key']}.json"
    if again:
        file.unlink(missing_ok=True)
    record = Record(file, run)
    # The busiest start counts.
    record.content["run"]["load_before"] = max(
        run["load_before"], record.content["run"]["load_before"]
    )
    start = time.monotonic()
    say("section", VARIANTS)
    Grid(record, plan.grid, only, Budget(plan.seconds[VARIANTS])).measure()
    write_json(file, record.content)
    say(f"section {VARIANTS}: {(time.monotonic() - start) / 60:.1f} minutes; {file}")
    return file


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer texts, sizes, rounds and sections"
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
        choices=[VARIANTS, *SECTIONS, "scaling"],
        help=f"all of them; with --quick {', '.join(QUICK_SECTIONS)}; scaling stands for "
        f"{', '.join(SCALING)}",
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), help="of the variants' models")
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder for the results: {RESULTS.name}/ beside the program for complete runs, "
        "otherwise one in .cache",
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="put the report into the pages of docs/ although the run is not a complete one",
    )
    given = parser.parse_args(arguments)
    if given.stream_minutes is not None and not given.stream_minutes > 0:
        parser.error(f"--stream-minutes must be more than 0, not {given.stream_minutes}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    given = read_arguments(arguments)
    plan = QUICK if given.quick else FULL
    if given.scale:
        plan = plan.shrunk(given.scale)
    if given.rounds:
        plan = plan.with_rounds(given.rounds)
    if given.minutes:
        plan = plan.within(given.minutes)
    whole = plan == replace(FULL, seconds=plan.seconds) and not given.only
    if given.sizes:
        # Each is published by itself.
        plan = replace(plan, grid=replace(plan.grid, sizes=tuple(given.sizes)))
    if given.stream_minutes:
        plan = replace(plan, stream_seconds=60 * given.stream_minutes)
        whole = whole and plan.stream_seconds >= FULL.stream_seconds
    chosen = given.sections or (QUICK_SECTIONS if given.quick else [VARIANTS, *SECTIONS])
    named = [s for n in chosen for s in (SCALING if n == "scaling" else (n,))]
    sections = [name for name in SECTIONS if name in named]
    output = given.output or (RESULTS if whole else WORK / "results")
    ignored = ("sections", "sizes", "output", "write_docs", "again")
    kept = {k: v for k, v in vars(given).items() if k not in ignored}
    options = ", ".join(
        f"{name} {' '.join(value) if isinstance(value, list) else value}"
        if value is not True
        else name
        for name, value in kept.items()
        if value
    )
    started = time.monotonic()
    load = machine.load_average()
    if load > 0.3:
        say(f"the machine is busy (load {load:.2f}): speeds do not hold")
    failed = False
    if VARIANTS in named:
        _build_environments()
        file = measure_variants(plan, given.only, options, given.again)
        content = read_record(file)
        failed = bool(content["failures"])  # what the time did not reach has not failed
        output.mkdir(parents=True, exist_ok=True)
        published = output / f"variants-{machine.slug(content['run']['machine'])}.json"
        write_json(published, merged(read_record(published), content, list(SIZES)))
    if sections:
        run = describe_run(
            options,
            plan=(given.only, replace(plan, seconds={}, grid=FULL.grid)),
            complete=whole and sections == list(SECTIONS),
        )
        results = Results(output, run)
        if given.again:
            results.sections = {k: v for k, v in results.sections.items() if k not in sections}
        with ExitStack() as stack:
            measure(sections, Run(plan, given.only, stack).section, results)
        failed = failed or any(results.sections[name]["failures"] for name in sections)
    write_report(output)
    if given.write_docs or (output.resolve() == RESULTS and is_publishable(output)):
        update_pages(output)
    say(f"{(time.monotonic() - started) / 60:.1f} minutes; {output}/benchmark.md")
    return int(failed)


def _build_environments() -> None:
    """Those of sentence-transformers; what they take counts for no section."""
    for name in sorted({v.recipe.environment for v in variants().values()} - {""}):
        build(name)


if __name__ == "__main__":
    sys.exit(main())
