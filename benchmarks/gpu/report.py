"""gpu.md: a table for each section, and whether the aims were reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.texts import LONGEST, MEAN_TOKENS, SHORTEST, SIGMA
from benchmarks.markdown import table

#: Section to the columns of its table: key of a row, title, format.
_COLUMNS: dict[str, Sequence[tuple[str, str, str]]] = {
    "correctness": (
        ("model", "model", ""), ("asked", "dtype asked for", ""), ("dtype", "computed in", ""),
        ("packed", "packed", ""), ("kernel", "kernel", ""), ("min_cosine", "least cosine", ".6f"),
        ("max_difference", "largest difference", ".1e"), ("alikeness", "of other texts", ".3f"),
        ("passed", "right", ""),
    ),
    "kinds": (
        ("model", "model", ""), ("asked", "dtype asked for", ""), ("dtype", "computed in", ""),
        ("min_cosine", "least cosine", ".6f"), ("max_difference", "largest difference", ".1e"),
        ("passed", "right", ""),
    ),
    "throughput": (
        ("shape", "model", ""), ("system", "system", ""), ("texts_per_second", "texts/s", ",.0f"),
        ("tokens_per_second", "tokens/s", ",.0f"),
        ("over_default", "sentence-transformers' default", ".1f"),
        ("over_float16", "its float16", ".2f"), ("over_flash", "its flash", ".2f"),
        ("over_sorted", "transformers sorted", ".2f"), ("weights_mb", "weights, MB", ",.0f"),
        ("peak_mb", "peak, MB", ",.0f"), ("rounds", "rounds", ""), ("spread", "spread", ".0%"),
    ),
    "busy": (
        ("shape", "model", ""), ("asked", "dtype asked for", ""), ("dtype", "computed in", ""),
        ("busy", "a kernel runs", ".1%"), ("driver_busy", "by the driver", ".0%"),
        ("kernels", "kernels", ",d"), ("texts", "texts", ",d"), ("seconds", "seconds", ".2f"),
    ),
    "latency": (
        ("shape", "model", ""), ("tokens", "tokens", ""), ("system", "system", ""),
        ("p50_ms", "p50, ms", ".2f"), ("p99_ms", "p99, ms", ".2f"), ("calls", "calls", ""),
    ),
    "recovery": (
        ("shape", "model", ""), ("case", "batches", ""), ("needed_mb", "needed, MB", ",.0f"),
        ("limit_mb", "there, MB", ",.0f"), ("ran_out", "ran out, times", ""),
        ("budget_before", "tokens a batch", ",d"), ("budget_after", "afterwards", ",d"),
        ("min_cosine", "least cosine", ".6f"), ("passed", "right", ""),
    ),
    "threads": (
        ("shape", "model", ""), ("asked", "dtype asked for", ""), ("threads", "threads", ""),
        ("texts_per_second", "texts/s", ",.0f"), ("texts_per_second_alone", "one call", ",.0f"),
        ("min_cosine", "least cosine", ".6f"), ("passed", "right", ""),
    ),
    "pool": (
        ("shape", "model", ""), ("devices", "a process on each of", ""),
        ("texts_per_second", "texts/s", ",.0f"), ("texts_per_second_alone", "no pool", ",.0f"),
        ("start_seconds", "start, s", ".1f"), ("min_cosine", "least cosine", ".6f"),
        ("passed", "right", ""),
    ),
    "onnx": (
        ("shape", "model", ""), ("file", "file", ""), ("pooled", "pooled", ""),
        ("texts_per_second", "texts/s", ",.0f"), ("min_cosine", "least cosine", ".6f"),
        ("passed", "right", ""),
    ),
}  # fmt: skip

_NOTES = {
    "correctness": "The reference is transformers by itself, padded, in float32 on the CPU (for a "
    "model that was given, core's). A text counts with the worst of: all texts at once, batches of "
    "a few, and one by itself. `of other texts` is the mean cosine of two different texts.",
    "kinds": "The reference is core in float32 on the CPU. Scores are compared without their mean.",
    "throughput": f"Lengths are lognormal with a mean of {MEAN_TOKENS:.0f} tokens and a deviation "
    f"of {SIGMA} of the logarithm, cut at {SHORTEST} and {LONGEST}, seeded. The columns of ratios "
    "are times as fast, the median of the interleaved rounds. `peak` is what tensors took beyond "
    "the weights.",
    "busy": "The share of the time of one `encode` in which a kernel ran, from the profiler's "
    "record; and the median of what nvidia-smi reports.",
    "latency": "Single calls with one text, systems in turns.",
    "recovery": "The process may take a third of what a batch needs.",
    "threads": "Each thread has texts of its own.",
    "pool": "",
    "onnx": "`bound`: pooled on the device through IO binding. `copied`: token embeddings copied "
    "to numpy.",
}

#: What is aimed at on one GPU of the class of an H100: shape, system, what, at least.
_AIMS = (
    ("e5-small", "texts_per_second", 80_000.0),
    ("e5-small", "over_float16", 2.0),
    ("e5-small", "over_default", 10.0),
    ("bert-base", "texts_per_second", 25_000.0),
    ("bert-base", "over_float16", 2.0),
    ("bert-base", "over_default", 10.0),
)
_AIMED = "core auto"
_BUSY = 0.85
_TITLES = {
    "texts_per_second": "texts/s",
    "over_float16": "times sentence-transformers in float16",
    "over_default": "times sentence-transformers as it is by default",
}


def page(content: Mapping[str, Any]) -> str:
    """The whole of gpu.md."""
    sections = content["sections"]
    parts = ["# The torch backend on a GPU\n", _head(content)]
    for name, columns in _COLUMNS.items():
        if name in sections:
            parts += [f"## {name.capitalize()}\n", _section(sections[name], columns, name)]
    aims = _aims(sections)
    if aims:
        parts += ["## Aims\n", table(("", "aim", "found"), aims)]
    return "\n".join(parts)


def _head(content: Mapping[str, Any]) -> str:
    run = content["run"]
    found: Mapping[str, Any] = next(iter(content["sections"].get("device", {}).get("rows", ())), {})
    gpu = "no GPU"
    if "name" in found:
        gpu = (
            f"{found['name']} ({found['memory_gb']:.0f} GB, driver {found['driver']}, CUDA "
            f"{found['CUDA']})"
        )
    versions = ", ".join(f"{name} {v}" for name, v in found.get("versions", {}).items())
    verdict = {
        True: "every result is right",
        False: "**some results are wrong**",
        None: "**not checked to the end**",
    }[content.get("correct")]
    lines = [
        f"{gpu}; {run['machine']['processor']}, {run['machine']['cores']} cores.",
        f"{run['started']}, commit {run['commit'] or 'unknown'}, `{run['arguments']}`. {versions}.",
        "",
        f"Correctness: {verdict}.",
    ]
    if run["tiny"]:
        lines += ["", "**A dry run of tiny sizes: its speeds mean nothing.**"]
    return "\n".join(lines) + "\n"


def _section(section: Mapping[str, Any], columns: Sequence[tuple[str, str, str]], name: str) -> str:
    lines = []
    if section["ended"] != "done":
        lines.append(f"**{section['ended']}**: {section['why']}\n")
    measured = [row for row in section["rows"] if not row.keys() & {"error", "absent"}]
    wrong = [row for row in measured if row.get("passed") is False]
    lines += [f"**Wrong**: {_label(row)}\n" for row in wrong]
    if measured:
        if _NOTES[name]:
            lines.append(_NOTES[name] + "\n")
        shown = [c for c in columns if any(row.get(c[0]) is not None for row in measured)]
        body = [[_cell(row.get(key), form) for key, _, form in shown] for row in measured]
        lines.append(table((title for _, title, _ in shown), body))
    for row in section["rows"]:
        why = row.get("error") or row.get("absent") or row.get("note")
        if why:
            figures = _figures(row, columns) if "error" in row else []
            lines.append(f"- {_label(row)}: {', '.join([*figures, why])}\n")
    said = {message: None for row in section["rows"] for message in row.get("said", ())}
    lines += [f"- core said: {message}\n" for message in said]
    return "\n".join(lines)


def _figures(row: Mapping[str, Any], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    """What a row has all the same, which is in no table."""
    shown = [(title, row.get(key), form) for key, title, form in columns if form]
    return [f"{title} {value:{form}}" for title, value, form in shown if value is not None]


def _label(row: Mapping[str, Any]) -> str:
    """What a row without figures is about."""
    keys = ("shape", "model", "system", "asked", "packed", "case", "devices", "file", "pooled")
    return ", ".join(_cell(row[key], "") for key in keys if row.get(key) is not None)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return format(value, form)


def _aims(sections: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    speeds = {
        row["shape"]: row
        for row in sections.get("throughput", {}).get("rows", ())
        if row.get("system") == _AIMED and "texts_per_second" in row
    }
    for shape, key, least in _AIMS:
        if key in speeds.get(shape, {}):
            form = ",.0f" if least > 100 else ".1f"
            found.append(
                (f"{shape}: {_TITLES[key]}", format(least, form), format(speeds[shape][key], form))
            )
    for row in sections.get("busy", {}).get("rows", ()):
        if (
            row.get("shape") in ("e5-small", "bert-base")
            and row.get("asked") == "auto"
            and "busy" in row
        ):
            found.append((f"{row['shape']}: busy", f"{_BUSY:.0%}", f"{row['busy']:.0%}"))
    return found
