"""What the pages show, as HTML; every text of a user or a model is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_ui.similarities import Similarities

#: Measures as people call them.
_MEASURES = {"dot": "dot product", "maxsim": "MaxSim", "meanmaxsim": "mean MaxSim"}
#: A text without any vector scores far below every other.
_NO_DOCUMENT = -1e8
#: What is shown of a verification: of each kind of model the measures that it has.
_DRIFTS = {
    "mean_cosine": "cosine mean",
    "p1_cosine": "1st percentile",
    "min_cosine": "minimum",
    "mean_overlap": "overlap of dimensions mean",
    "min_overlap": "minimum",
    "max_value_difference": "value difference at most",
    "max_score_difference": "score difference at most",
    "max_maxsim_difference": "MaxSim difference at most",
    "rank_correlation": "rank correlation",
}
_COPY = (
    "navigator.clipboard.writeText(this.parentElement.nextElementSibling.innerText);"
    "this.innerText='Copied'"
)


def table(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column names the row."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headers)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return _scrolled(
        caption, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", named=bool(headers)
    )


def facts(caption: str, found: Mapping[str, str]) -> str:
    """Names and what they are."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in found.items()
    )
    return _scrolled(caption, f"<tbody>{rows}</tbody>")


def _scrolled(caption: str, inner: str, *, named: bool = True) -> str:
    """A table that scrolls inside a small window, by keyboard too."""
    label = escape(caption, quote=True)
    return (
        # Above what scrolls, so that it is read in any window.
        f'<div class="core-title" aria-hidden="true">{escape(caption)}</div>'
        f'<div class="core-scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="core-table" aria-label="{label}">{inner}</table></div>'
    )


def code(python: str, shell: str) -> str:
    """The lines that do the same."""
    return "".join(
        f'<div class="core-code"><div class="core-code-head"><span>{title}</span>'
        f'<button type="button" onclick="{escape(_COPY, quote=True)}">Copy</button></div>'
        f'<pre tabindex="0" role="region" aria-label="{title}">{escape(text)}</pre></div>'
        for title, text in (("The same in Python", python), ("The same in a shell", shell))
        if text
    )


def log(lines: Sequence[str]) -> str:
    """What commands said, the newest last."""
    if not lines:
        return ""
    text = escape("\n".join(lines))
    return f'<pre class="core-log" tabindex="0" role="region" aria-label="Log">{text}</pre>'


def status(text: str, *, kind: str = "plain") -> str:
    """A line that screen readers announce; `kind` is "plain", "good" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="core-status core-{kind}" role="{role}">{escape(text)}</div>'


def note(text: str) -> str:
    """A paragraph."""
    return f'<p class="core-note">{escape(text)}</p>'


def heat_map(title: str, texts: Sequence[str], found: Similarities) -> str:
    """Similarities, the larger the darker."""
    # Where the measure has no largest value, the colors are relative to what is shown.
    low, high = (0.0, 1.0) if found.measure == "cosine" else _range(found.scores)
    heads = "".join(f'<th scope="col">{number + 1}</th>' for number in range(len(texts)))
    rows = []
    for number, text in enumerate(texts):
        cells = "".join(
            f'<td class="core-heat" style="background:{_color(float(value), low, high)}">'
            f"{value:.3f}</td>"
            for value in found.scores[number]
        )
        rows.append(f'<tr><th scope="row">{number + 1}. {escape(text)}</th>{cells}</tr>')
    inner = (
        f'<thead><tr><th scope="col">Text</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
    )
    return _scrolled(f"{title}: {_measure(found)}", inner)


def _measure(found: Similarities) -> str:
    name = _MEASURES.get(found.measure, found.measure)
    return f"{name}, each row a query, each column a document" if found.has_roles else name


def _range(scores: NDArray[np.float32]) -> tuple[float, float]:
    real = scores[scores > _NO_DOCUMENT]
    return (float(real.min()), float(real.max())) if real.size else (0.0, 1.0)


def _color(value: float, low: float, high: float) -> str:
    """From white (low and below) to orange (high), under black text."""
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 1.0
    return f"rgb(255,{255 - round(115 * share)},{255 - round(225 * share)})"


def neighbours(
    texts: Sequence[str], names: tuple[str, str], source: Similarities, result: Similarities
) -> str:
    """Each text's nearest other, by a model and by what was made of it."""
    both = []
    for found in (source, result):
        others = found.scores.copy()
        np.fill_diagonal(others, -np.inf)
        both.append([(int(i), float(others[row, i])) for row, i in enumerate(others.argmax(1))])
    rows = [
        [text, f"{texts[a]} ({one:.3f})", f"{texts[b]} ({two:.3f})", "yes" if a == b else "no"]
        for text, (a, one), (b, two) in zip(texts, *both, strict=True)
    ]
    same = sum(row[-1] == "yes" for row in rows)
    caption = f"Nearest neighbours ({_measure(source)}): the same for {same} of {len(texts)} texts"
    return table(caption, ["Text", *names, "Same"], rows)


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "?"
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def verification(found: Mapping[str, Any] | None) -> str:
    """How far an artifact drifts, in the measure of its kind."""
    if not found:
        return "-"
    known = [(words, found.get(name)) for name, words in _DRIFTS.items()]
    shown = [f"{words} {value:.4f}" for words, value in known if isinstance(value, float | int)]
    return ", ".join(shown) or "-"
