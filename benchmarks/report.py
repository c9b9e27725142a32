"""From the records of runs to Markdown and plots, and into the pages of docs/.

python -m benchmarks.report [FOLDER] [--write-docs]
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, scaling_tables, tables
from benchmarks.bars import speed_bars, variant_quality_bars, variant_speed_bars
from benchmarks.cells import is_whole, read_record
from benchmarks.flowchart import described, flowchart
from benchmarks.markdown import table
from benchmarks.plan import SECTIONS
from benchmarks.process import telling_line
from benchmarks.results import RESULTS, is_complete, read, runs
from benchmarks.variant_summary import Figures, Summary, figures_of_sections
from benchmarks.variant_tables import variants_report

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLOTS = {
    "throughput.png": "Speed of every system, by length of the texts",
    "latency.png": "Time for one short text",
    "scaling.png": "Cost by batch budget, number of texts and length",
    "stream.png": "Resident memory and speed while texts are streamed",
}
#: Of pages: what a program writes between two comments.
_BEGIN, _END = "<!-- {name}: written by benchmarks/report.py -->", "<!-- end of {name} -->"
_Table = Callable[[Mapping[str, Any]], str]
_COMPARED: tuple[tuple[str, _Table], ...] = (
    ("throughput", tables.speed),
    ("throughput", tables.geometric),
    ("throughput", tables.peak),
    ("latency", tables.single),
)
_OWN: tuple[tuple[str, _Table], ...] = (
    ("accuracy", tables.spearman),  # of records from before the comparison of variants
    ("batching", scaling_tables.batching),
    ("volume", scaling_tables.volume),
    ("length", scaling_tables.length),
    ("pool", scaling_tables.pool),
)
Records = Mapping[str, Mapping[str, Any]]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of variants in a folder: by the processor's short name, in its order."""
    found = {}
    for file in sorted(folder.glob("variants-*.json")):
        content = read_record(file)
        if content:
            found[file.stem.removeprefix("variants-")] = content
    return found


def sections_report(sections: Mapping[str, Any]) -> str:
    """All tables of the comparison with other libraries; empty without any section."""
    if not sections:
        return ""
    # One that failed as a whole has nothing but the reason.
    measured = {k: v for k, v in sections.items() if v.keys() - {"run", "failures"}}
    parts = [_head(sections)]
    parts += [make(measured[name]) for name, make in _COMPARED if name in measured]
    parts.append(tables.footprint(measured))
    parts += [make(measured[name]) for name, make in _OWN if name in measured]
    parts += [_runs(sections), _failures(sections)]
    return "\n".join(part for part in parts if part)


def record_report(record: Mapping[str, Any]) -> str:
    """All tables of one record of variants."""
    return variants_report(record, machine.kind(record["run"]["machine"]))


def write_report(folder: Path) -> None:
    """Write benchmark.md and the drawings of a folder; plots where matplotlib is installed.

    Those of the own folder are drawn into the pages only.
    """
    sections, found = read(folder), records(folder)
    text = "\n".join([*map(record_report, found.values()), sections_report(sections)])
    (folder / "benchmark.md").write_text(text, encoding="utf-8")
    if folder.resolve() != RESULTS:
        for name, content in drawings(sections, found).items():
            (folder / name).write_text(content, encoding="utf-8")
    try:
        from benchmarks.plots import draw
    except ImportError:
        print("no plots: pip install matplotlib", file=sys.stderr)
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
        for name, run in ((n, section["run"]) for n, section in sections.items())
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
            messages.setdefault((name, telling_line(message)), []).append(section)
    return "\n".join(
        f"**{name} failed** ({', '.join(where)}): {reason}\n"
        for (name, reason), where in messages.items()
    )


@dataclass(frozen=True)
class _Chart:
    """What a flow chart is drawn from.

    Attributes:
        file: Its name.
        means: What its speeds are means over, in words.
    """

    file: str
    processor: str
    figures: Mapping[str, Figures]
    means: str


def _charts(sections: Mapping[str, Any], found: Records) -> list[_Chart]:
    """A chart for each record of variants.

    One of the comparison with other libraries where no record is there yet.
    """
    if not found and "systems" in sections.get("throughput", {}):
        throughput = sections["throughput"]
        means = f"{', '.join(throughput['texts'])} texts with all-MiniLM-L6-v2"
        processor = machine.kind(throughput["run"]["machine"])
        figures = figures_of_sections(sections)
        return [_Chart("choosing.svg", processor, figures, means)]
    charts = []
    for name, record in found.items():
        titles = "; ".join(size["title"] for size in record["sizes"].values())
        means = f"short, middle and long texts with {titles}"
        processor = machine.kind(record["run"]["machine"])
        charts.append(_Chart(f"choosing-{name}.svg", processor, Summary(record).figures(), means))
    return charts


def drawings(sections: Mapping[str, Any], found: Records) -> dict[str, str]:
    """Every SVG by its file's name; flow charts of runs that lack a system are left out."""
    drawn = {}
    for name, record in found.items():
        figures = Summary(record).figures()
        drawn[f"speedup-{name}.svg"] = variant_speed_bars(figures)
        if any(figure.quality is not None for figure in figures.values()):
            drawn[f"performance-{name}.svg"] = variant_quality_bars(figures)
    for chart in _charts(sections, found):
        try:
            drawn[chart.file] = flowchart(chart.figures, chart.processor)
        except KeyError as missing:
            what = f"no flow chart of {chart.processor}: {missing} was not measured"
            print(what, file=sys.stderr)
    if "systems" in sections.get("throughput", {}):
        drawn["speed.svg"] = speed_bars(sections["throughput"]["systems"])
    return drawn


def blocks(sections: Mapping[str, Any], found: Records) -> dict[tuple[str, str], str]:
    """What stands between two comments of a page: by the page's name and that of the block."""
    drawn = drawings(sections, found)
    compared = [_deeper(sections_report(sections))] if sections else []
    compared += [f"![{title}](benchmark/{name})\n" for name, title in PLOTS.items()] * bool(
        sections
    )
    variants = []
    for name, record in found.items():
        variants.append(_deeper(record_report(record)))
        for file, title in (
            (f"speedup-{name}.svg", "Speedup ratio of every variant"),
            (f"performance-{name}.svg", "Performance ratio of every variant"),
        ):
            if file in drawn:
                variants.append(f"![{title}: see the table above](benchmark/{file})\n")
    charts = []
    for chart in _charts(sections, found):
        if chart.file in drawn:
            told = described(chart.figures, chart.processor)
            charts.append(f"![{told}.](benchmark/{chart.file})\n")
            charts.append(f"Speeds are geometric means over {chart.means}.\n")
    return {
        ("performance.md", "variants"): "\n".join(variants),
        ("performance.md", "benchmark"): "\n".join(compared),
        ("choosing.md", "flow chart"): "\n".join(charts),
    }


def _deeper(report: str) -> str:
    """Headings two levels down: they stand under one of the page's."""
    return re.sub(r"^(#+ )", r"##\1", report, flags=re.MULTILINE)


def with_block(page: str, name: str, content: str) -> str:
    """A page's text with other content between the two comments of this name."""
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    inside = f"\n\n{content}\n" if content else "\n"
    return f"{before}{begin}{inside}{end}{after}"


def update_pages(folder: Path, docs: Path = DOCS) -> None:
    """Write the reports and drawings of a folder into the pages."""
    sections, found = read(folder), records(folder)
    for (page, name), content in blocks(sections, found).items():
        if not content:
            continue  # what nothing was measured for stays
        text = (docs / page).read_text(encoding="utf-8")
        (docs / page).write_text(with_block(text, name, content), encoding="utf-8")
    plots = docs / "benchmark"
    plots.mkdir(exist_ok=True)
    drawn = drawings(sections, found)
    if any(name.startswith("choosing") for name in drawn):
        for stale in plots.glob("choosing*.svg"):
            stale.unlink()
    for name, content in drawn.items():
        (plots / name).write_text(content, encoding="utf-8")
    for name in PLOTS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, plots / name)


def is_publishable(folder: Path) -> bool:
    """Whether all that a folder has comes from runs that left nothing out."""
    sections, found = read(folder), records(folder)
    whole = not sections or is_complete(sections, SECTIONS)
    return whole and bool(sections or found) and all(map(is_whole, found.values()))


def main() -> None:
    """Write the report again; the pages too if the folder is the own one and its runs complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true", help="the pages in any case")
    given = parser.parse_args()
    if not (read(given.folder) or records(given.folder)):
        parser.error(f"{given.folder} has no record of this version: run the benchmark")
    write_report(given.folder)
    if given.write_docs or (given.folder.resolve() == RESULTS and is_publishable(given.folder)):
        update_pages(given.folder)


if __name__ == "__main__":
    main()
