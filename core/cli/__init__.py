"""The `core` command: exit code 0 for done, 1 for failed, 2 for bad usage."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from core.errors import CoreError, OptionError

DONE, FAILED, USAGE = 0, 1, 2

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    parser = build_parser()
    parsed, more = parser.parse_known_args(arguments)
    if more:
        # Texts after options: argparse gave the positional list its share before them.
        if parsed.name != "encode" or any(word.startswith("-") for word in more):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        parsed.texts += more
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    command: Command = parsed.command
    try:
        command(parsed)
        sys.stdout.flush()
    except OptionError as error:
        print(f"core {parsed.name}: {error}", file=sys.stderr)
        return USAGE
    except CoreError as error:
        print(f"core {parsed.name}: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `core ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        print(f"core {parsed.name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; importing the commands imports no runtime."""
    from core import __version__
    from core.cli import artifacts, demo, encode, models, scaffold

    parser = argparse.ArgumentParser(
        prog="core",
        description="Text embeddings through interchangeable inference backends.",
    )
    parser.add_argument("--version", action="version", version=f"core {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for module in (models, encode, artifacts, demo, scaffold):
        module.add_commands(commands)
    return parser
