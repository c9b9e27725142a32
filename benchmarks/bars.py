"""The plot of the README: the speed of every system in one run, as an SVG."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.systems import REFERENCE

_OURS, _PEERS = "#1f6fb2", "#b8b8b8"
_WIDTH, _LINE, _NAMES, _TOP = 760, 22, 230, 40


def speed_bars(systems: Mapping[str, Any]) -> str:
    """Bars of the geometric means over the lengths of texts, against the reference; fastest first.

    Systems that failed on one of the lengths are left out.
    """
    most = max(len(entry["ratio"]) for entry in systems.values())
    means = {
        name: statistics.geometric_mean(entry["ratio"].values())
        for name, entry in systems.items()
        if len(entry["ratio"]) == most
    }
    names = sorted(means, key=lambda name: -means[name])
    height = _TOP + _LINE * len(names) + 10
    unit = (_WIDTH - _NAMES - 70) / max(means.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f"<title>Texts per second, relative to {escape(REFERENCE)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_NAMES}" y="22">Texts per second on two CPU cores, relative to '
        f"{escape(REFERENCE)} (longer is faster)</text>",
    ]
    for number, name in enumerate(names):
        y = _TOP + _LINE * number
        length = round(means[name] * unit, 1)
        color = _OURS if systems[name]["ours"] else _PEERS
        parts.append(
            f'<text x="{_NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_NAMES}" y="{y + 2}" width="{length}" height="{_LINE - 6}" '
            f'fill="{color}"/>'
            f'<text x="{_NAMES + length + 6}" y="{y + 14}">{means[name]:.1f}x</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
