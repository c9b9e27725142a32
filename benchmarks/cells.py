"""Every measured cell of the comparison of variants, on disk at once.

A record belongs to one key: the code, the libraries, the machine and the plan that it was measured
with. A later run with the same key measures what is missing; one with another key has a file of
its own. What is published of a processor has each size of model from one record: a size is measured
in turns with its own reference, so sizes of different days and commits stand beside each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    """Whether its sizes have all that a complete run plans for them, measured or failed."""
    sizes = record.get("sizes", {})
    return bool(sizes) and all(map(_is_whole_size, sizes.values()))


def _is_whole_size(size: Cells) -> bool:
    return bool(size["run"]["complete"]) and not size["missing"]


def merged(published: Cells, measured: Cells, order: Sequence[str]) -> dict[str, Any]:
    """What is published of a processor, with the sizes of another record put in.

    A size that is not whole takes the place of none that is.

    Args:
        order: Of the sizes.
    """
    before: Cells = published.get("sizes", {})
    kept = {
        name
        for name, size in before.items()
        if name not in measured["sizes"]
        or (_is_whole_size(size) and not _is_whole_size(measured["sizes"][name]))
    }
    sizes = {**measured["sizes"], **{name: before[name] for name in kept}}
    cells: dict[str, Any] = {table: {} for table in ("speed", "quality", "failures")}
    for table, found in cells.items():
        for record, taken in ((published, True), (measured, False)):
            for where, value in record.get(table, {}).items():
                if (where.partition("/")[0] in kept) is taken:
                    found[where] = value
    return {
        "format": _FORMAT,
        "run": {"machine": measured["run"]["machine"]},
        "sizes": {name: sizes[name] for name in dict.fromkeys([*order, *sizes]) if name in sizes},
        "systems": {**published.get("systems", {}), **measured["systems"]},
        **cells,
    }
