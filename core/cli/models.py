"""`core backends` and `core info`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from core.cli.arguments import add_json, add_source, print_json, print_table


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "backends", help="list backends", description="List every backend and whether it works."
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="where each is from, and what it can"
    )
    add_json(parser)
    parser.set_defaults(command=show_backends)
    parser = commands.add_parser(
        "info", help="describe a model", description="Describe a model without loading weights."
    )
    parser.add_argument("model", metavar="MODEL", help="a directory, or a name on the Hub")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(command=show_info)


def show_backends(parsed: argparse.Namespace) -> None:
    """Name, status, distribution, operations."""
    import core
    from core.cli.plugins import describe
    from core.registry import install_hint, status_table

    statuses = core.backends()
    if parsed.json:
        report = {name: asdict(status) for name, status in statuses.items()}
        if parsed.verbose:
            plugins = {name: asdict(status) for name, status in core.plugins().items()}
            print_json({"backends": report, "plugins": plugins})
        else:
            print_json(report)
    elif parsed.verbose and (statuses or core.plugins()):
        print(describe(statuses, core.plugins()))
    elif not statuses:
        print(f"No backend is installed. {install_hint()}")
    else:
        print_table([("BACKEND", "STATUS", "DISTRIBUTION", "OPERATIONS"), *status_table(statuses)])


def show_info(parsed: argparse.Namespace) -> None:
    """What a model consists of, and which files each backend finds."""
    from core.checkpoint import resolve
    from core.inspection import artifact_rows, inspect_model, render

    source = resolve(
        parsed.model, revision=parsed.revision, local_files_only=parsed.local_files_only
    )
    info = inspect_model(source)
    if parsed.json:
        print_json(info.as_dict())
        return
    print(render(info))
    rows = artifact_rows(info)
    if len(rows) > 1:
        print()
        print_table(rows)
    else:
        print("\nNo installed backend finds a file it can load.")
