"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The first column to the left, figures to the right."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def figure(value: float | None, form: str) -> str:
    """Empty where nothing was measured."""
    return "" if value is None else format(value, form)


def of_rounds(counts: Iterable[int]) -> str:
    """`1 round`, `5 rounds`, `2 to 7 rounds`."""
    counts = sorted(counts) or [0]
    first, last = counts[0], counts[-1]
    span = f"{first}" if first == last else f"{first} to {last}"
    return f"{span} interleaved round{'s' * (last != 1)}"
