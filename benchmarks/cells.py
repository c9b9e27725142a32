"""Every measured cell of the comparison of variants, on disk at once.

A record belongs to one key: the code, the libraries, the machine and the plan that it was measured
with. A later run with the same key measures what is missing; one with another key has a file of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import write_json

_FORMAT = 1
#: The tables of a record.
_TABLES = ("sizes", "systems", "speed", "quality", "failures")

Cells = Mapping[str, Any]


class Record:
    """A file of cells.

    Attributes:
        content: What is in it: `run`, and by table and key what was found.
    """

    def __init__(self, file: Path, run: Mapping[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        known = read_record(file)
        if known.get("run", {}).get("key") == run["key"]:
            self.content = known
        else:
            empty: dict[str, Any] = {table: {} for table in _TABLES}
            self.content = {"format": _FORMAT, "run": dict(run), **empty}

    def has(self, table: str, *names: str) -> bool:
        return key(*names) in self.content[table]

    def put(self, table: str, *names: str, value: Mapping[str, Any]) -> None:
        """Write one cell down; what failed there before is forgotten."""
        self.content[table][key(*names)] = dict(value)
        write_json(self._file, self.content)

    def forget_failures(self, *names: str) -> None:
        """Of a system that is tried again."""
        self.content["failures"].pop(key(*names), None)


def key(*names: str) -> str:
    return "/".join(names)


def read_record(file: Path) -> dict[str, Any]:
    """A record; empty where it is missing, broken off while written, or of another format."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("format") == _FORMAT else {}


def is_whole(record: Cells) -> bool:
    """Whether it has everything that its run planned, measured or failed."""
    return bool(record.get("run", {}).get("complete")) and not record["run"].get("missing", True)
