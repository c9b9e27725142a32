"""`core cache`: what the cache holds, and removing it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from core.cli.arguments import add_json, print_json, print_table, size_of
from core.errors import CoreError, OptionError

if TYPE_CHECKING:
    from core.artifacts.housekeeping import Entry


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "cache",
        help="list or clear the cache of exports",
        description="List what lies in the cache, with sizes and ages, or remove it. The cache is "
        "$CORE_CACHE, else core in $XDG_CACHE_HOME, else ~/.cache/core; what is removed is made "
        "again when it is needed.",
    )
    parser.add_argument("action", nargs="?", choices=("clear",), help="remove; absent: list")
    parser.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="with clear: only what was written more than this many days ago",
    )
    add_json(parser)
    parser.set_defaults(core_command=run)


def run(parsed: argparse.Namespace) -> None:
    """List, or clear and say what was freed."""
    if parsed.older_than is not None:
        if parsed.action != "clear":
            raise OptionError("--older-than belongs to `core cache clear`.")
        if not 0 <= parsed.older_than < float("inf"):
            raise OptionError(f"--older-than takes days, 0 or more, not {parsed.older_than}.")
    if parsed.action == "clear":
        _clear(parsed)
    else:
        _list(parsed)


def _list(parsed: argparse.Namespace) -> None:
    from core.artifacts.cache import cache_directory
    from core.artifacts.housekeeping import list_cache

    entries = list_cache()
    root, total = cache_directory(), sum(entry.size for entry in entries)
    if parsed.json:
        folders = [_as_dict(entry) for entry in entries]
        print_json({"directory": str(root), "bytes": total, "folders": folders})
    elif not entries:
        print(f"{root} is empty.")
    else:
        rows = [(str(e.folder.relative_to(root)), size_of(e.size), _age(e)) for e in entries]
        print_table([("FOLDER", "SIZE", "AGE"), *rows])
        print(f"{size_of(total)} in {root}. `core cache clear` removes it.")


def _clear(parsed: argparse.Namespace) -> None:
    from core.artifacts.cache import cache_directory
    from core.artifacts.housekeeping import clear_cache

    removed, kept, errors = clear_cache(parsed.older_than)
    root, freed = cache_directory(), sum(entry.size for entry in removed)
    if parsed.json:
        print_json(
            {
                "directory": str(root),
                "bytes": freed,
                "removed": [_as_dict(entry) for entry in removed],
                "kept": [_as_dict(entry) for entry in kept],
            }
        )
    else:
        for entry in removed:
            print(f"removed {entry.folder.relative_to(root)}, {size_of(entry.size)}")
        for entry in kept:
            print(f"kept {entry.folder.relative_to(root)}: a process is writing it")
        print(f"{size_of(freed)} freed in {root}.")
    if errors:
        raise CoreError("\n".join(map(str, errors)))


def _as_dict(entry: Entry) -> dict[str, Any]:
    return {
        "folder": str(entry.folder),
        "bytes": entry.size,
        "age_days": round(entry.age_days, 3),
        "in_use": entry.in_use,
    }


def _age(entry: Entry) -> str:
    days = entry.age_days
    if entry.in_use:
        return "being written"
    if days < 1 / 24:
        return "under an hour"
    count, unit = (round(days * 24), "hour") if days < 1 else (round(days), "day")
    return f"{count} {unit}{'' if count == 1 else 's'}"
