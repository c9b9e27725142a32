"""Tables of how cost grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import figure, of_rounds, table

Section = Mapping[str, Any]
#: Numbers of texts at which the streams' traces are read.
_STREAMED = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def batching(found: Section) -> str:
    budgets = sorted({row["budget"] for row in found["rows"]})
    speeds = {
        (row["backend"], row["workers"], row["budget"]): row["texts_per_second"]
        for row in found["rows"]
    }
    rows = [
        [f"{backend}, {workers} worker{'s' * (workers > 1)}"]
        + [figure(speeds.get((backend, workers, budget)), ".1f") for budget in budgets]
        for backend, workers in sorted({key[:2] for key in speeds})
    ]
    return (
        f"## Batch budget and workers\n\nTexts per second, {found['texts']} of mixed lengths, by "
        f"`batch_tokens`; medians of {of_rounds([found['rounds']])}.\n\n"
        + table(["", *(f"{budget:,}" for budget in budgets)], rows)
    )


def cost_curves(found: Section) -> dict[str, list[tuple[int, float]]]:
    """For each system: numbers of texts, and milliseconds per text when there are that many.

    Calls of `encode` first, then one stream, read whenever a window was done.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in found["encode"]:
        curve = curves.setdefault(row["system"], [])
        curve.append((row["texts"], 1e3 * row["seconds"] / row["texts"]))
    for name, stream in found["streams"].items():
        curve = curves.setdefault(name, [])
        last = max((texts for texts, _ in curve), default=0)
        curve += [
            (int(texts), 1e3 * seconds / texts)
            for texts, _, seconds in stream["trace"]
            if texts > last
        ]
    return curves


def volume(found: Section) -> str:
    parts = [
        "## Number of texts\n\nMilliseconds per text, by number of short texts; up to 1,000 in one "
        f"`encode`, more through one `encode_stream` in windows of {found['window']:,}. Empty "
        "where the stream's time was over before.\n"
    ]
    curves = cost_curves(found)
    counts = [*sorted({row["texts"] for row in found["encode"]}), *_STREAMED]
    rows = []
    for name, curve in curves.items():
        costs = dict(curve)
        # A window's end need not be at the number asked for: the first one at or past it.
        streamed = (next((c for n, c in curve if n >= count), None) for count in _STREAMED)
        rows.append(
            [name]
            + [figure(costs.get(count), ".3g") for count in counts if count not in _STREAMED]
            + [figure(cost, ".3g") for cost in streamed]
        )
    parts.append(table(["", *(f"{count:,}" for count in counts)], rows))
    rows = [
        [
            name,
            f"{stream['texts']:,}",
            f"{stream['texts_per_second']:,.0f}",
            figure(stream.get("memory_settled"), ",.0f"),
            figure(stream["memory_peak"], ",.0f"),
            figure(stream.get("growth"), "+,.0f"),
        ]
        for name, stream in found["streams"].items()
    ]
    head = ["", "texts", "a second", "after 10,000, MB", "at most, MB", "grown since 10,000, MB"]
    parts.append("Resident memory while they are streamed:\n")
    parts.append(table(head, rows))
    return "\n".join(parts)


def length(found: Section) -> str:
    tokens = sorted({row["tokens"] for row in found["rows"]})
    cells = {(row["backend"], row["tokens"]): 1e3 * row["seconds"] for row in found["rows"]}
    rows = [
        [backend, *(_milliseconds(cells.get((backend, count))) for count in tokens)]
        for backend in sorted({row["backend"] for row in found["rows"]})
    ]
    return (
        "## Length of a text\n\nMilliseconds for one text by its tokens, on a model of MiniLM's "
        f"size with 8,192 positions and random weights; medians of "
        f"{of_rounds(row['rounds'] for row in found['rows'])}.\n\n"
        + table(["tokens", *(f"{count:,}" for count in tokens)], rows)
    )


def _milliseconds(value: float | None) -> str:
    return figure(value, ".2f" if value is not None and value < 10 else ",.0f")


def pool(found: Section) -> str:
    cells = {(row["backend"], row["processes"]): row for row in found["rows"]}
    counts = sorted({processes for _, processes in cells})
    rows = []
    for backend in dict.fromkeys(backend for backend, _ in cells):
        row = [backend]
        for count in counts:
            cell = cells[backend, count]
            ratio = f" ({cell['ratio']:.2f}x)" if count else ""
            row.append(f"{cell['texts_per_second']:.1f}{ratio}")
        rows.append(row)
    head = [f"{n} process{'es' * (n > 1)}" if n else "the model itself" for n in counts]
    rounds = of_rounds(row["rounds"] for row in found["rows"])
    return (
        f"## Process pool\n\nTexts per second, {found['texts']} of mixed lengths, through "
        "`core.ProcessPool`; in brackets against the model itself, which has all cores, in the "
        f"same round; medians of {rounds}.\n\n" + table(["", *head], rows)
    )
