"""The report as one HTML file: no script, and nothing that is loaded from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template

from core.arguments import check_path
from core.errors import OptionError
from core.files.staging import explained_writes
from core.tuning.findings import Findings, TunedVariant
from core.tuning.plot import check_folder, draw_svg

#: Heading of each column, what it means, and its cell.
COLUMNS: tuple[tuple[str, str, Callable[[TunedVariant], str]], ...] = (
    ("variant", "backend, operation, configuration", lambda v: v.name),
    ("texts/s", "bulk encoding", lambda v: number(v.texts_per_second, "{:,.0f}")),
    ("speed", "relative to float32", lambda v: number(v.speed_ratio, "{:.2f}x")),
    ("spread", "how far rounds disagree", lambda v: number(v.spread, "{:.1%}")),
    ("p50 ms", "one text, median", lambda v: number(v.p50_ms, "{:.2f}")),
    ("p99 ms", "one text, 99th percentile", lambda v: number(v.p99_ms, "{:.2f}")),
    ("memory MB", "resident, of a process", lambda v: number(v.resident_bytes, "{:,.0f}", 1e6)),
    ("start s", "process start to first embedding", lambda v: number(v.start_s, "{:.1f}")),
    ("files MB", "size on disk", lambda v: number(v.size_bytes, "{:,.1f}", 1e6)),
    ("texts", "embedded for what follows", lambda v: number(v.texts, "{:,.0f}")),
    ("cosine", "mean, to float32", lambda v: number(v.mean_cosine, "{:.4f}")),
    ("1 %", "first percentile of it", lambda v: number(v.p1_cosine, "{:.4f}")),
    ("min", "minimum of it", lambda v: number(v.min_cosine, "{:.4f}")),
    ("Spearman", "of pairwise similarities", lambda v: number(v.spearman, "{:.4f}")),
    ("recall@10", "of nearest neighbours", lambda v: number(v.recall_at_10, "{:.3f}")),
    ("interval", "95 % of resamples", lambda v: _interval(v)),
    ("old index", "recall@10, new queries against float32 documents",
     lambda v: number(v.mixed_recall_at_10, "{:.3f}")),
    ("quality", "ratio to float32, labelled data", lambda v: number(v.quality, "{:.4f}")),
    ("", "what happened to it", lambda v: status_of(v)),
)  # fmt: skip

#: Those that fit a terminal.
SHORT_COLUMNS = tuple(
    (name or "status", cell)
    for name, _, cell in COLUMNS
    if name in ("variant", "texts/s", "speed", "p50 ms", "memory MB", "files MB", "min",
                "recall@10", "quality", "")
)  # fmt: skip

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; line-height: 1.5; margin: 2rem auto; max-width: 80rem;
  padding: 0 1rem; }
.choice { border-left: 0.25rem solid #d55e00; padding-left: 1rem; font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid; vertical-align: bottom; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
td:last-child { white-space: normal; min-width: 14rem; }
tr.best { font-weight: bold; }
tr.dropped { opacity: 0.7; }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>$heading</h1>
<p class="choice">$reason</p>
<p>$conditions</p>
$plot
<p>Each point is a variant; the line joins those that no other beats in both. The recommendation is
marked. $requirement</p>
<div class="scroll">
<table>
<thead><tr>$headings</tr></thead>
<tbody>
$rows
</tbody>
</table>
</div>
<h2>To load it</h2>
$loading
</body>
</html>
""")


def write_page(report: Findings, path: str | os.PathLike[str]) -> Path:
    """Write the report to a file that ends in .html."""
    place = check_page(path)
    with explained_writes(place):
        place.write_text(render(report), encoding="utf-8")
    return place


def check_page(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that a report cannot be written to, before there is one."""
    place = check_path("path", path)
    if place.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"The report is written to a .html file, not to {str(place)!r}.")
    return check_folder(place)


def render(report: Findings) -> str:
    """The page."""
    headings = "".join(
        f'<th scope="col" title="{escape(meaning)}">{escape(name)}</th>'
        for name, meaning, _ in COLUMNS
    )
    title = f"Which variant of {report.model}?"
    requirement = f"Required: {report.goal}."
    if report.goal.min_recall is not None:
        requirement += " The broken line is the recall asked for."
    return _PAGE.substitute(
        title=escape(title),
        heading=escape(title),
        reason=escape(report.reason),
        conditions=escape(
            f"Measured on {report.processor}, with {report.texts:,} of the given texts"
            + (
                f" ({report.calibration_texts:,} others calibrated)."
                if report.calibration_texts
                else "."
            )
            + f" Speeds are relative to {report.reference.name}, in rounds that both were in."
        ),
        plot=draw_svg(report),
        requirement=escape(requirement),
        headings=headings,
        rows="\n".join(_row(variant, report) for variant in report.variants),
        loading=_loading(report),
    )


def _row(variant: TunedVariant, report: Findings) -> str:
    kind = "best" if variant.name == report.best.name else variant.status.replace(" ", "-")
    cells = "".join(f"<td>{escape(cell(variant))}</td>" for _, _, cell in COLUMNS)
    return f'<tr class="{kind}">{cells}</tr>'


def _loading(report: Findings) -> str:
    if report.lock is not None:
        return (
            f"<p>The file and <code>{escape(report.lock.name)}</code> lie in one directory, and a "
            "load follows them:</p>"
            f"<pre><code>core.load({escape(repr(str(report.lock.parent)))})</code></pre>"
        )
    arguments = [repr(report.model), f"backend={report.best.backend!r}"]
    if report.best.file_name:
        arguments.append(f"file_name={report.best.file_name!r}")
    if report.best.options:
        arguments.append(f"model_kwargs={dict(report.best.options)!r}")
    return f"<pre><code>core.load({escape(', '.join(arguments))})</code></pre>"


def number(value: float | None, form: str, unit: float = 1) -> str:
    """A figure as a report shows it; a dash where there is none."""
    return "-" if value is None else form.format(value / unit)


def status_of(variant: TunedVariant) -> str:
    """What became of a variant, in words; nothing where it was measured to the end."""
    if variant.status == "measured":
        return ""
    return f"{variant.status}: {variant.note}" if variant.note else variant.status


def _interval(variant: TunedVariant) -> str:
    if variant.recall_interval is None:
        return "-"
    low, high = variant.recall_interval
    return f"{low:.3f} to {high:.3f}"
