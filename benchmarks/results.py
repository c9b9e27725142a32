"""What a run found, on disk after every section, with its machine, date and commit."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.model_files import ROOT

RESULTS = Path(__file__).resolve().with_name("results")
_FORMAT = 2
RUNTIMES = ("torch", "transformers", "onnxruntime", "openvino", "numpy")
#: What decides a figure: the library, and how it is measured.
_MEASURED = ("core/**/*.py", "plugins/*/src/**/*.py", "benchmarks/*.py", "scripts/peers.py")
#: Modules that only show figures.
_SHOWING = (
    "bars", "flowchart", "markdown", "plots", "report", "scaling_tables", "tables",
    "variant_tables",
)  # fmt: skip


def describe_run(options: str, *, plan: object, complete: bool) -> dict[str, Any]:
    """What every section of one run has in common.

    Args:
        options: What was asked to be other than it is by default.
        plan: How much is measured. Runs of the same plan, code, libraries and machine have the
            same key, and one goes on where another ended.
        complete: Whether the run has every section and every system at full size.
    """
    found = {"machine": machine.describe(), "versions": versions(RUNTIMES)}
    return {
        "key": key_of({**found, "sources": sources(), "plan": repr(plan)}),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": commit(),
        "options": options,
        "complete": complete,
        "load_before": machine.load_average(),
        **found,
    }


def key_of(facts: Mapping[str, Any]) -> str:
    """Equal for equal facts only."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def sources() -> str:
    """A digest of the code that is measured and that measures, committed or not."""
    digest = hashlib.sha256()
    for pattern in _MEASURED:
        for path in sorted(ROOT.glob(pattern)):
            if path.parent.name != "benchmarks" or path.stem not in _SHOWING:
                digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def commit() -> str:
    """The commit measured, with a plus where files differ from it; empty outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        measured = ("core", "plugins", "benchmarks/*.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *measured)
        return git("rev-parse", "--short", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read(folder: Path) -> dict[str, Any]:
    """The sections in a folder's benchmark.json; none where it has another format or is missing."""
    file = folder / "benchmark.json"
    if not file.exists():
        return {}
    content = json.loads(file.read_text())
    return dict(content["sections"]) if content.get("format") == _FORMAT else {}


class Results:
    """A folder's benchmark.json. A section replaces what an earlier run found for it."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.run = run
        self.sections = read(folder)

    def has(self, name: str) -> bool:
        """Whether this run, or one with the same key, has measured a section."""
        found = self.sections.get(name, {})
        mine = found.get("run", {}).get("key") == self.run["key"]
        return mine and bool(found.keys() - {"run", "failures"})

    def put(self, name: str, found: Mapping[str, Any], minutes: float) -> None:
        self.sections[name] = {"run": {**self.run, "minutes": minutes}, **found}
        content = {"format": _FORMAT, "sections": self.sections}
        write_json(self.folder / "benchmark.json", content)


def write_json(file: Path, content: object) -> None:
    """Write a file that appears whole."""
    staging = file.with_name(f"{file.name}.part")
    staging.write_text(json.dumps(content, indent=1), encoding="utf-8")
    staging.replace(file)


def runs(sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The different runs that the sections come from; one that went on later counts once."""
    found: dict[str, dict[str, Any]] = {}
    for section in sections.values():
        run = section["run"]
        found.setdefault(run.get("key", run["started"]), run)
    return list(found.values())


def is_complete(sections: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether all of these sections are there, of one run that left nothing out."""
    found = runs(sections)
    return set(names) <= set(sections) and len(found) == 1 and bool(found[0]["complete"])
