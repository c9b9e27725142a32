"""What a run found, on disk after every row: gpu.json, and gpu.md for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.section import Ending, Row
from benchmarks.results import write_json

_FORMAT = 1


class Record:
    """Files of a folder that are always whole, however the run ends.

    Args:
        run: What is the same for all sections: arguments, machine, commit.
        page: What gpu.md says of the content.
    """

    def __init__(
        self, folder: Path, run: dict[str, Any], page: Callable[[dict[str, Any]], str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.content: dict[str, Any] = {"format": _FORMAT, "run": run, "sections": {}}
        self._page = page
        self.write()

    def begin(self, name: str) -> None:
        """A section that has found nothing yet; what ends a run now ends it there."""
        self.content["sections"][name] = {"ended": "stopped", "why": "with the run", "rows": []}
        self.write()

    def add(self, name: str, row: Row) -> None:
        self.content["sections"][name]["rows"].append(row)
        self.write()

    def end(self, name: str, ending: Ending, seconds: float) -> None:
        self.content["sections"][name] |= {
            "ended": ending.how,
            "why": ending.why,
            "seconds": seconds,
        }
        self.write()

    @property
    def correct(self) -> bool | None:
        """Whether every result was right; None where correctness was not measured to its end."""
        sections = self.content["sections"]
        if any(row.get("passed") is False for one in sections.values() for row in one["rows"]):
            return False
        checked = sections.get("correctness", {})
        return True if checked.get("ended") == "done" and checked["rows"] else None

    @property
    def failed(self) -> bool:
        """Whether a section raised, or its process died: what it was to check is not checked."""
        return any(one["ended"] == "failed" for one in self.content["sections"].values())

    def write(self) -> None:
        """Both files; each appears whole."""
        self.content["correct"] = self.correct
        write_json(self.folder / "gpu.json", self.content)
        staging = self.folder / "gpu.md.part"
        staging.write_text(self._page(self.content), encoding="utf-8")
        staging.replace(self.folder / "gpu.md")
