"""From a run's JSON to Markdown and plots, and into docs/performance.md.

python -m benchmarks.report [FOLDER] [--write-docs]
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import scaling_tables, tables
from benchmarks.bars import speed_bars
from benchmarks.flowchart import flowchart
from benchmarks.markdown import table
from benchmarks.plan import SECTIONS
from benchmarks.results import RESULTS, is_complete, read, runs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
PLOTS = {
    "throughput.png": "Speed of every system, by length of the texts",
    "latency.png": "Time for one short text",
    "scaling.png": "Cost by batch budget, number of texts and length",
    "stream.png": "Resident memory and speed while texts are streamed",
}
_BEGIN = "<!-- benchmark: written by benchmarks/report.py -->"
_END = "<!-- end of benchmark -->"
_TELLING = re.compile(r"(Error|Exception)\b|panicked|^slower than|^killed", re.IGNORECASE)
_Table = Callable[[Mapping[str, Any]], str]
_COMPARED: tuple[tuple[str, _Table], ...] = (
    ("throughput", tables.speed),
    ("throughput", tables.geometric),
    ("throughput", tables.peak),
    ("latency", tables.single),
)
_OWN: tuple[tuple[str, _Table], ...] = (
    ("accuracy", tables.spearman),
    ("batching", scaling_tables.batching),
    ("volume", scaling_tables.volume),
    ("length", scaling_tables.length),
    ("pool", scaling_tables.pool),
)


def write_report(sections: Mapping[str, Any], folder: Path) -> None:
    """Write benchmark.md, and plots where matplotlib is installed."""
    # One that failed as a whole has nothing but the reason.
    measured = {k: v for k, v in sections.items() if v.keys() - {"run", "failures"}}
    parts = [_head(sections)]
    parts += [make(measured[name]) for name, make in _COMPARED if name in measured]
    parts.append(tables.footprint(measured))
    parts += [make(measured[name]) for name, make in _OWN if name in measured]
    parts += [_runs(sections), _failures(sections)]
    text = "\n".join(part for part in parts if part)
    (folder / "benchmark.md").write_text(text, encoding="utf-8")
    try:
        from benchmarks.plots import draw
    except ImportError:
        print("no plots: pip install -r benchmarks/requirements.txt", file=sys.stderr)
        return
    draw(sections, folder)


def _head(sections: Mapping[str, Any]) -> str:
    found = runs(sections)
    newest = max(found, key=lambda run: run["started"])
    text = f"# Benchmark of {newest['started'][:10]}\n\nall-MiniLM-L6-v2 cut at 256 tokens. "
    if len(found) == 1:
        return f"{text}{_machine(newest)}\n"
    machines = {_machine(run): run["started"] for run in found}
    lines = [f"{text}**The sections are of different runs, whose figures cannot be compared.**\n"]
    lines += [f"- {start}: {machine}" for machine, start in machines.items()]
    return "\n".join(lines) + "\n"


def _machine(run: Mapping[str, Any]) -> str:
    facts = {**run["machine"], **run["versions"]}
    return (
        ", ".join(
            f"{name}: {', '.join(value) if isinstance(value, list) else value}"
            for name, value in facts.items()
        )
        + "."
    )


def _runs(sections: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            run["started"],
            f"{run['load_before']:.2f}",
            run["commit"],
            run["options"].replace("|", "\\|"),
            f"{run['minutes']:.1f}",
        ]
        for name, run in ((n, sections[n]["run"]) for n in SECTIONS if n in sections)
    ]
    total = sum(section["run"]["minutes"] for section in sections.values())
    head = ["section", "start of its run", "load before", "commit", "options", "minutes"]
    return f"## What was run\n\n{total:.0f} minutes in all; + marks a commit with changes.\n\n" + (
        table(head, rows)
    )


def _failures(sections: Mapping[str, Any]) -> str:
    messages: dict[tuple[str, str], list[str]] = {}
    for section, found in sections.items():
        for name, message in found["failures"].items():
            messages.setdefault((name, _reason(message)), []).append(section)
    return "\n".join(
        f"**{name} failed** ({', '.join(where)}): {reason}\n"
        for (name, reason), where in messages.items()
    )


def _reason(message: str) -> str:
    """The line of a process's last words that says why; others follow it in a backtrace."""
    lines = message.strip().splitlines() or ["no message"]
    telling = (line for line in reversed(lines) if _TELLING.search(line))
    return next(telling, lines[-1]).strip()


def update_page(sections: Mapping[str, Any], folder: Path, page: Path = PAGE) -> None:
    """Put the report and its plots between the page's two marks; draw flow chart and bars anew."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    report = (folder / "benchmark.md").read_text(encoding="utf-8")
    report = re.sub(r"^(#+ )", r"##\1", report, flags=re.MULTILINE)
    plots = page.parent / "benchmark"
    plots.mkdir(exist_ok=True)
    for name, title in PLOTS.items():
        if (folder / name).exists():
            shutil.copyfile(folder / name, plots / name)
            report += f"\n![{title}](benchmark/{name})\n"
    page.write_text(f"{before}{_BEGIN}\n\n{report}\n{_END}{after}", encoding="utf-8")
    try:
        drawn = flowchart(sections["throughput"]["systems"])
    except KeyError as missing:
        print(f"the flow chart stays as it is: {missing} was not measured", file=sys.stderr)
    else:
        (plots / "choosing.svg").write_text(drawn, encoding="utf-8")
        bars = speed_bars(sections["throughput"]["systems"])
        (plots / "speed.svg").write_text(bars, encoding="utf-8")


def main() -> None:
    """Write the report again; the page too if the folder is the own one and its run complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true", help="the page in any case")
    given = parser.parse_args()
    sections = read(given.folder)
    if not sections:
        parser.error(f"{given.folder} has no benchmark.json of this version: run the benchmark")
    write_report(sections, given.folder)
    own = given.folder.resolve() == RESULTS and is_complete(sections, SECTIONS)
    if own or given.write_docs:
        update_page(sections, given.folder)


if __name__ == "__main__":
    main()
