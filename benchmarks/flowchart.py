"""The flow chart of docs/choosing.md: one processor, with its figures in the boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from benchmarks.systems import REFERENCE
from benchmarks.variant_summary import Figures

#: Quality may drop by so much: two answers to the first question.
LOSSES = (0.005, 0.03)

_WIDTH, _HEIGHT, _LINE = 860, 440, 20
#: Key: middle and top of the box, its width, whether it is a question.
_BOXES = {
    "where": (430, 15, 460, False),
    "loss": (430, 100, 300, True),
    "torch?": (190, 200, 290, True),
    "any": (110, 305, 210, False),
    "torch": (325, 305, 190, False),
    "small": (540, 305, 210, False),
    "more": (755, 305, 190, False),
    "check": (430, 395, 560, False),
}
_ARROWS = (
    ("where", "loss", ""),
    ("loss", "torch?", "no"),
    ("torch?", "any", "no"),
    ("torch?", "torch", "yes"),
    ("loss", "small", f"to {LOSSES[0]:.1%}"),
    ("loss", "more", f"to {LOSSES[1]:.0%}"),
)


@dataclass(frozen=True)
class Answers:
    """The fastest of our systems for each answer of the chart.

    Attributes:
        exact: Computing in float32.
        exact_torch: The same, of the torch backend.
        lossy: For each of `LOSSES`, with a quality that drops by no more.
    """

    exact: str
    exact_torch: str
    lossy: tuple[str, ...]


def answers(figures: Mapping[str, Figures]) -> Answers:
    """What the chart says.

    Raises:
        KeyError: The systems for an answer, or any quality, were not measured.
    """
    ours = {name: found.speed for name, found in figures.items() if found.ours and found.speed}

    def fastest(names: list[str], what: str) -> str:
        if not names:
            raise KeyError(what)
        return max(names, key=lambda name: ours[name])

    if all(figures[name].quality is None for name in ours):
        raise KeyError("quality")  # of random weights: whether it drops is not known
    exact = [name for name in ours if figures[name].precision == "fp32"]
    lossy = []
    for loss in LOSSES:
        kept = [
            name for name in ours if name in exact or (figures[name].quality or 0.0) >= 1 - loss
        ]
        lossy.append(fastest(kept, f"with a loss of {loss:.1%}"))
    return Answers(
        fastest(exact, "float32"),
        fastest([name for name in exact if name.startswith("core torch")], "torch in float32"),
        tuple(lossy),
    )


def described(figures: Mapping[str, Figures], processor: str) -> str:
    """The chart in one paragraph, for those who cannot see it."""
    found = answers(figures)
    small, more = (f"{name} ({_times(figures, name)})" for name in found.lossy)
    return (
        f"On {processor}: if quality may not drop, {found.exact} ({_times(figures, found.exact)}), "
        f"or {found.exact_torch} ({_times(figures, found.exact_torch)}) where PyTorch is installed "
        f"anyway; if it may drop by {LOSSES[0]:.1%}, {small}; by {LOSSES[1]:.0%}, {more}"
    )


def _times(figures: Mapping[str, Figures], name: str) -> str:
    return f"{figures[name].speed:.1f} times"


def flowchart(figures: Mapping[str, Figures], processor: str) -> str:
    """An SVG drawing; speeds are means, against the reference.

    Raises:
        KeyError: The systems for an answer, or any quality, were not measured.
    """
    found = answers(figures)

    def box(name: str) -> list[str]:
        quality = figures[name].quality
        kept = "" if quality is None or quality >= 1 else f", quality {quality:.1%}"
        return [name.removeprefix("core "), f"{_times(figures, name)}{kept}"]

    text = {
        "where": [f"On a CPU: {processor}", f"speeds relative to {REFERENCE} fp32"],
        "loss": ["May quality drop a little?"],
        "torch?": ["Must PyTorch be installed anyway?"],
        "any": box(found.exact),
        "torch": box(found.exact_torch),
        "small": box(found.lossy[0]),
        "more": box(found.lossy[1]),
        "check": ["core tune MODEL --texts FILE: the same on your model, texts and machine"],
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        f"<title>Choosing a backend on {escape(processor)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    bottoms = {key: _BOXES[key][1] + _LINE * len(text[key]) + 16 for key in text}
    for start, end, label in _ARROWS:
        x1, y1 = _BOXES[start][0], bottoms[start]
        x2, y2 = _BOXES[end][0], _BOXES[end][1]
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#546e7a"/>')
        if label:
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            parts.append(
                f'<rect x="{x - 34}" y="{y - 10}" width="68" height="19" fill="white"/>'
                f'<text x="{x}" y="{y + 4}" fill="#37474f">{escape(label)}</text>'
            )
    for key, (x, top, width, question) in _BOXES.items():
        fill, radius = ("#e3f2fd", 22) if question else ("#f1f8e9", 4)
        parts.append(
            f'<rect x="{x - width / 2}" y="{top}" width="{width}" height="{bottoms[key] - top}" '
            f'rx="{radius}" fill="{fill}" stroke="#546e7a"/>'
        )
        for number, line in enumerate(text[key]):
            parts.append(
                f'<text x="{x}" y="{top + 22 + _LINE * number}" fill="black">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
