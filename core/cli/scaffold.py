"""`core new-backend`."""

from __future__ import annotations

import argparse
from typing import Any

from core.arguments import check_path


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "new-backend",
        help="write the package of a new backend",
        description="Write a package of a backend that installs and passes the conformance suite.",
    )
    parser.add_argument("backend", metavar="NAME", help="as users will type it: my-engine")
    parser.add_argument("directory", nargs="?", metavar="DIRECTORY", help="core-NAME-backend")
    parser.add_argument(
        "--checkpoint",
        action="store_true",
        help="a backend that loads model files, with a small runtime in numpy",
    )
    parser.set_defaults(core_command=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the package and say what to do next."""
    from core.scaffold import write_backend

    given = parsed.directory
    directory = None if given is None else check_path("DIRECTORY", given)
    target = write_backend(parsed.backend, directory, checkpoint=parsed.checkpoint)
    for path in sorted(target.rglob("*")):
        if path.is_file():
            print(path)
    print(f"\nNext:\n  cd {target}\n  pip install -e '.[test]'\n  pytest")
