"""The `core` command: exit code 0 for done, 1 for failed, 2 for bad usage."""

from __future__ import annotations

import argparse
import difflib
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
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows "--" are texts, whatever they begin with.
    end = words.index("--") if "--" in words else len(words)
    parsed, unknown = parser.parse_known_args(words[:end])
    literal = words[end + 1 :]
    wrong = [*unknown, *literal]
    if parsed.name == "encode":
        # Texts after options: argparse gave the positional list its share before them.
        found = [*parsed.texts, *unknown]
        wrong = [word for word in found if _like_an_option(word)]
        parsed.texts = [*found, *literal]
    if wrong:
        _refuse(parsed, wrong)
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
        print(f"core {parsed.name}: interrupted.", file=sys.stderr)
        return 130
    return DONE


def _like_an_option(word: str) -> bool:
    """As argparse sees it: a dash in front and no blank."""
    return word.startswith("-") and " " not in word


def _refuse(parsed: argparse.Namespace, words: list[str]) -> None:
    """End with the command's own usage and the option that may have been meant."""
    parser: argparse.ArgumentParser = parsed.parser
    options = [option for action in parser._actions for option in action.option_strings]
    close = [difflib.get_close_matches(word, options, n=1) for word in words]
    hints = sorted({match for matches in close for match in matches})
    hint = f" (did you mean {' or '.join(hints)}?)" if hints else ""
    if parsed.name == "encode" and "-" in words:
        hint = " (texts from standard input: --input -)"
    parser.error(f"unrecognized arguments: {' '.join(words)}{hint}")


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
    for name, command in commands.choices.items():
        command.set_defaults(parser=command, name=name)
    return parser
