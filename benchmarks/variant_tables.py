"""Tables of the comparison of variants."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import figure, table
from benchmarks.process import telling_line
from benchmarks.systems import REFERENCE
from benchmarks.variant_summary import LENGTHS, Summary


def variants_report(record: Mapping[str, Any], processor: str) -> str:
    """All tables of one record."""
    summary = Summary(record)
    parts = [
        _head(record, processor),
        _models(record),
        _speed(summary),
        _sizes(summary),
        _batches(summary),
        _quality(summary),
        _failures(record),
    ]
    return "\n".join(part for part in parts if part)


def _head(record: Mapping[str, Any], processor: str) -> str:
    machine = record["run"]["machine"]
    lines = [
        f"# Every variant on {processor}\n",
        f"{machine['cores']} cores, {machine['memory GB']} GB. Each size of model is a run of its "
        "own, in which every system took turns with the reference:\n",
        *(_run_of(size) for size in record["sizes"].values()),
        "",
    ]
    peers = {
        tuple(about["versions"].items())
        for about in record["systems"].values()
        if about.get("versions")
    }
    if peers:
        told = (", ".join(f"{n} {v}" for n, v in versions) for versions in sorted(peers))
        lines.append(f"The environments of sentence-transformers: {'; '.join(told)}.")
    return "\n".join(lines) + "\n"


def _run_of(size: Mapping[str, Any]) -> str:
    run = size["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    told = (
        f"- {size['title']}: {run['started']}, commit {run['commit']}, load before the start "
        f"{run['load_before']:.2f}; {versions}."
    )
    if not run["complete"]:
        told += f" **A shortened run ({run['options'] or 'of less than is planned'}).**"
    if size["missing"]:
        told += f" **Without {', '.join(size['missing'])}.**"
    return told


def _models(record: Mapping[str, Any]) -> str:
    rows = []
    for size in record["sizes"].values():
        row = [size["title"]]
        for length in LENGTHS:
            row.append(f"{size['texts'][length]} of {size['tokens'][length]:.0f}")
        rows.append(row)
    first = next(iter(record["sizes"].values()), None)
    characters = first["characters"] if first else {}
    head = [
        "",
        *(f"{length}: {characters.get(length, 0):,.0f} characters" for length in LENGTHS),
    ]
    return (
        "Texts in a round, and their tokens on average after truncation. Models of random weights "
        "have a speed, but no quality:\n\n" + table(head, rows)
    )


def _speed(summary: Summary) -> str:
    figures = summary.figures()
    rows = []
    for name in summary.systems:
        found = figures[name]
        fit = [size for size in summary.sizes if summary.mean(name, [size]) is not None]
        cells = (summary.mean(name, fit, [length]) if fit else None for length in LENGTHS)
        sizes = "" if found.sizes[0] == found.sizes[1] else " ({} of {} sizes)".format(*found.sizes)
        rows.append(
            [
                f"{name}{sizes}",
                figure(found.speed, ".2f"),
                *(figure(cell, ".2f") for cell in cells),
                figure(found.quality, ".4f"),
            ]
        )
    spread = summary.spread()
    told = ""
    if spread:
        told = (
            "A cell's spread, the interquartile range of its rounds' ratios over their median, is "
            f"{statistics.median(spread):.1%} in the middle and "
            f"{spread[int(0.95 * (len(spread) - 1))]:.1%} for 95 of 100 cells. "
        )
    return (
        f"## Speedup and performance ratio\n\nTexts per second over those of `{REFERENCE}` in "
        "float32, each with its own batches: the median of the rounds' ratios, and geometric means "
        "over models and lengths. Quality: Spearman and NDCG@10 over the reference's, the mean "
        f"over models and data. {told}\n\n"
        + table(["", "speedup ratio", *LENGTHS, "performance ratio"], rows)
    )


def _sizes(summary: Summary) -> str:
    rows = []
    for name in summary.systems:
        row = [name]
        for size in summary.sizes:
            rates = [summary.texts_per_second(size, name, length) for length in LENGTHS]
            mean = summary.mean(name, [size])
            told = " / ".join(_rate(rate) for rate in rates if rate is not None)
            row.append(f"{figure(mean, '.2f')} ({told})" if mean is not None else told)
        rows.append(row)
    titles = [summary.record["sizes"][size]["title"].split(",")[0] for size in summary.sizes]
    return (
        "## By size of model\n\nThe speedup ratio, and in brackets the texts per second of short, "
        "middle and long texts.\n\n" + table(["", *titles], rows)
    )


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _batches(summary: Summary) -> str:
    batches = sorted(
        {int(name.rsplit("/", 1)[1]) for name in summary.record["speed"] if name[-1].isdigit()}
    )
    if not batches:
        return ""
    rows = []
    for name in summary.systems:
        cells = [
            summary.mean(name, summary.sizes, ("short", "middle"), str(batch)) for batch in batches
        ]
        if any(cell is not None for cell in cells):
            rows.append([name, *(figure(cell, ".2f") for cell in cells)])
    return (
        "## By texts in a batch\n\nThe speedup ratio where both have so many short or middle texts "
        "in each batch, where there are as many. Empty where a system failed with a size, or is "
        "too slow to fill such batches.\n\n"
        + table(["", *(f"{batch} texts" for batch in batches)], rows)
    )


def _quality(summary: Summary) -> str:
    columns = [(size, task) for size in summary.sizes for task in summary.tasks[size]]
    if not columns:
        return ""
    rows = []
    for name in summary.systems:
        row = [name]
        lowest = []
        for size, task in columns:
            found = summary.quality(size, name, task)
            ratio = summary.quality_ratio(size, name, task)
            if found:
                lowest.append(found["cosine"]["min"])
            told = f"{found['value']:.2f}" if found else ""
            row.append(f"{told} ({ratio:.4f})" if ratio is not None else told)
        if lowest:
            rows.append([*row, f"{min(lowest):.4f}"])
    titles = {size: summary.record["sizes"][size]["title"].split(",")[0] for size in summary.sizes}
    heads = [f"{titles[size]}, {task}" for size, task in columns]
    counts = []
    for size, task in columns:
        found = summary.quality(size, REFERENCE, task)
        if found:
            counts.append(f"{found['texts']:,} texts for {titles[size]}, {task}")
    return (
        "## Quality\n\nTimes 100, and in brackets over the reference's; the minimum cosine to its "
        f"embeddings of the same texts. {'; '.join(counts)}.\n\n"
        + table(["", *heads, "min cosine"], rows)
    )


def _failures(record: Mapping[str, Any]) -> str:
    told = []
    for name, failure in record["failures"].items():
        size, system = name.split("/", 1)
        reason = telling_line(failure["reason"])
        title = record["sizes"].get(size, {}).get("title", size)
        told.append(f"**{system} failed** with {title}: {reason}\n")
    return "\n".join(told)
