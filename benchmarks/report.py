"""From a run's JSON to Markdown tables and plots."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.flowchart import flowchart
from benchmarks.systems import REFERENCE

WORKLOADS = ("short", "middle", "long", "mixed")
RESULTS = Path(__file__).resolve().with_name("results")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
PLOTS = {
    "throughput.png": "Speed of every system, by length of the texts",
    "latency.png": "Time for one short text",
    "scaling.png": "Cost by batch budget, number of texts and length",
    "stream.png": "Resident memory while texts are streamed",
}
_BEGIN = "<!-- benchmark: written by benchmarks/report.py -->"
_END = "<!-- end of benchmark -->"


def write_report(result: dict[str, Any], folder: Path) -> None:
    """Write benchmark.md, and plots where matplotlib is installed."""
    parts = [_head(result)]
    if "systems" in result:
        parts += [
            _speed(result),
            _geometric(result),
            _peak(result),
            _single(result),
            _footprint(result),
        ]
    if result.get("sick"):
        rows = [[name, f"{value:.2f}"] for name, value in result["sick"].items()]
        parts.append("## Spearman on SICK (test, x 100)\n\n" + table(["", "Spearman"], rows))
    if "scaling" in result:
        parts.append(_scaling(result["scaling"]))
    for name, message in result.get("failures", {}).items():
        parts.append(f"**{name} failed:** {message.strip().splitlines()[-1]}\n")
    (folder / "benchmark.md").write_text("\n".join(parts), encoding="utf-8")
    try:
        from benchmarks.plots import draw
    except ImportError:
        print("no plots: pip install -r benchmarks/requirements.txt", file=sys.stderr)
        return
    draw(result, folder)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _head(result: dict[str, Any]) -> str:
    machine = result.get("machine", {})
    facts = ", ".join(
        f"{name}: {', '.join(value) if isinstance(value, list) else value}"
        for name, value in machine.items()
    )
    return (
        f"# Benchmark of {result.get('started', '')}\n\n"
        f"all-MiniLM-L6-v2 cut at 256 tokens; {facts}. {result.get('rounds', 0)} interleaved "
        f"rounds, medians; load before the start {result.get('load_before', 0):.2f}; "
        f"{result.get('minutes', 0):.0f} minutes in all.\n"
    )


def _systems(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    order = {name: i for i, name in enumerate(result["systems"])}
    return sorted(result["systems"].items(), key=lambda item: (not item[1]["ours"], order[item[0]]))


def _cell(entry: dict[str, Any], field: str, workload: str, form: str) -> str:
    value = entry.get(field, {}).get(workload)
    return "" if value is None else format(value, form)


def _speed(result: dict[str, Any]) -> str:
    rows = []
    for name, entry in _systems(result):
        row = [name]
        for workload in WORKLOADS:
            speed = _cell(entry, "texts_per_second", workload, ".1f")
            ratio = _cell(entry, "ratio", workload, ".2f")
            row.append(f"{speed} ({ratio}x)" if ratio else speed)
        cosine = entry.get("cosine", {}).get("min")
        rows.append([*row, "" if cosine is None else f"{cosine:.5f}"])
    counts = result["texts"]
    head = ["texts a second", *(f"{name} ({counts[name]})" for name in WORKLOADS), "min cosine"]
    return (
        f"## Throughput\n\nIn brackets: against `{REFERENCE}` with its defaults, the median of the "
        "rounds' ratios. Minimum cosine to its embeddings on the mixed texts.\n\n"
        + table(head, rows)
    )


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def best_peer_ratio(result: dict[str, Any], name: str) -> tuple[str, float]:
    """The peer of the same precision with the highest geometric mean, and ours over it."""
    own = result["systems"][name]
    peers = {
        other: geometric_mean(entry["ratio"].values())
        for other, entry in result["systems"].items()
        if not entry["ours"] and entry["precision"] == own["precision"] and entry["ratio"]
    }
    if not peers or not own["ratio"]:
        return "", math.nan
    best = max(peers, key=lambda other: peers[other])
    return best, geometric_mean(own["ratio"].values()) / peers[best]


def _geometric(result: dict[str, Any]) -> str:
    rows = []
    for name, entry in _systems(result):
        mean = geometric_mean(entry["ratio"].values()) if entry["ratio"] else math.nan
        best, over = best_peer_ratio(result, name) if entry["ours"] else ("", math.nan)
        rows.append([name, f"{mean:.2f}", f"{over:.2f} ({best})" if best else ""])
    return "## Geometric mean of the four ratios\n\n" + table(
        ["", "over the reference", "over the best peer of its precision"], rows
    )


def _peak(result: dict[str, Any]) -> str:
    peaks = [value for values in result["sgemm_gflops"].values() for value in values]
    rows = [
        [name, *(_cell(entry, "peak_share", workload, ".0%") for workload in WORKLOADS)]
        for name, entry in _systems(result)
    ]
    return (
        "## Useful operations, of the measured peak\n\nMatrix products of the real tokens, without "
        f"padding, over what a float32 matrix product of 1,536 x 1,536 reached in the same round "
        f"({min(peaks):.0f}-{max(peaks):.0f} GFLOP/s). int8 is not bound by it.\n\n"
        + table(["", *WORKLOADS], rows)
    )


def _single(result: dict[str, Any]) -> str:
    base = result["systems"].get(REFERENCE, {}).get("latency_ms", {}).get("p50")
    rows = []
    for name, entry in _systems(result):
        found = entry.get("latency_ms")
        if found:
            ratio = f"{found['p50'] / base:.2f}x" if base else ""
            rows.append([name, f"{found['p50']:.2f}", f"{found['p99']:.2f}", ratio])
    return "## One short text\n\n" + table(
        ["milliseconds", "median", "99th percentile", "of the reference"], rows
    )


def _footprint(result: dict[str, Any]) -> str:
    rows = []
    for name, entry in _systems(result):
        starts = entry.get("cold_start", [])
        installed = entry.get("installed", {}).get("megabytes")
        memory = entry.get("memory", {})
        rows.append(
            [
                name,
                f"{sorted(starts)[len(starts) // 2]:.2f}" if starts else "",
                f"{entry['memory_loaded']:.0f}",
                f"{memory.get('peak', 0):.0f}",
                f"{installed:.0f}" if installed else "",
            ]
        )
    head = ["", "start to first embedding, s", "resident loaded, MB", "peak, MB", "installed, MB"]
    return "## Start, memory, disk\n\n" + table(head, rows)


def _scaling(found: dict[str, Any]) -> str:
    parts = ["## Scaling\n"]
    budgets = sorted({row["budget"] for row in found["budget"]})
    kinds = sorted({(row["backend"], row["workers"]) for row in found["budget"]})
    speed = {
        (r["backend"], r["workers"], r["budget"]): r["texts_per_second"] for r in found["budget"]
    }
    rows = [
        [f"{backend}, {workers} worker{'s' * (workers > 1)}"]
        + [f"{speed.get((backend, workers, budget), math.nan):.1f}" for budget in budgets]
        for backend, workers in kinds
    ]
    parts.append("Texts a second on mixed lengths, by `batch_tokens`:\n")
    parts.append(table(["", *map(str, budgets)], rows))
    counts = sorted({row["texts"] for row in found["number"]})
    backends = sorted({row["backend"] for row in found["number"]})
    seconds = {(row["backend"], row["texts"]): row["seconds"] for row in found["number"]}
    parts.append("Milliseconds a text, by number of short texts in one call:\n")
    parts.append(
        table(
            ["", *(f"{count:,}" for count in counts)],
            [
                [b, *(f"{1e3 * seconds.get((b, n), math.nan) / n:.2f}" for n in counts)]
                for b in backends
            ],
        )
    )
    parts.append("One text by length, onnx, a model of MiniLM's size with 8,192 positions:\n")
    parts.append(
        table(
            ["tokens", *(str(row["tokens"]) for row in found["length"])],
            [["ms", *(f"{1e3 * row['seconds']:.1f}" for row in found["length"])]],
        )
    )
    for key, what in (("stream", "all-MiniLM-L6-v2"), ("stream_tiny", "a 2-layer model")):
        stream = found.get(key)
        if stream:
            parts.append(
                f"{stream['texts']:,} texts streamed through {what} on onnx: "
                f"{stream['texts_per_second']:.0f} a second, resident memory at most "
                f"{stream['growth_after_10000']:.0f} MB above that after 10,000.\n"
            )
    return "\n".join(parts)


def update_page(result: dict[str, Any], folder: Path, page: Path = PAGE) -> None:
    """Put the report and its plots between the page's two marks, and draw the flow chart anew."""
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
        drawn = flowchart(result)
    except KeyError as missing:
        print(f"the flow chart stays as it is: {missing} was not measured", file=sys.stderr)
    else:
        (plots / "choosing.svg").write_text(drawn, encoding="utf-8")


def main() -> None:
    """Write the report again from a folder's benchmark.json, and the page if it is the own one."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    result = json.loads((folder / "benchmark.json").read_text())
    write_report(result, folder)
    if folder.resolve() == RESULTS:
        update_page(result, folder)


if __name__ == "__main__":
    main()
