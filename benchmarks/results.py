"""What a run found, on disk after every section, with its machine, date and commit."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.systems import ROOT

RESULTS = Path(__file__).resolve().with_name("results")
_FORMAT = 2
_RUNTIMES = ("torch", "transformers", "onnxruntime", "openvino", "numpy")


def describe_run(options: str, *, complete: bool) -> dict[str, Any]:
    """What every section of one run has in common.

    Args:
        options: What was asked to be other than it is by default.
        complete: Whether the run has every section and every system at full size.
    """
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": _commit(),
        "options": options,
        "complete": complete,
        "load_before": machine.load_average(),
        "machine": machine.describe(),
        "versions": _versions(),
    }


def _commit() -> str:
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


def _versions() -> dict[str, str]:
    found = {}
    for name in _RUNTIMES:
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

    def put(self, name: str, found: Mapping[str, Any], minutes: float) -> None:
        self.sections[name] = {"run": {**self.run, "minutes": minutes}, **found}
        content = {"format": _FORMAT, "sections": self.sections}
        staging = self.folder / "benchmark.json.part"
        staging.write_text(json.dumps(content, indent=1), encoding="utf-8")
        staging.replace(self.folder / "benchmark.json")


def runs(sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The different runs that the sections come from."""
    return list(
        {section["run"]["started"]: section["run"] for section in sections.values()}.values()
    )


def is_complete(sections: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether all of these sections are there, of one run that left nothing out."""
    found = runs(sections)
    return set(names) <= set(sections) and len(found) == 1 and bool(found[0]["complete"])
