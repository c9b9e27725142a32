"""The `core` command: exit code 0 for done, 1 for failed, 2 for bad usage.

A distribution adds a command through the entry-point group `core.commands`:

    [project.entry-points."core.commands"]
    serve = "core_server.command:serve"

Its entry point is a function that takes an `argparse.ArgumentParser`, adds the command's arguments
to it, and returns the function that runs it with the parsed arguments. It is imported only when
the command is named.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from core.cli.wording import in_shell_words, logged_in_shell_words
from core.errors import CoreError, OptionError
from core.machine.stages import shown_stages
from core.machine.surroundings import ClosedStream, stand_in_for_closed_streams
from core.plugin.discovery import stdout_is_taken
from core.plugin.registry import registry

DONE, FAILED, USAGE = 0, 1, 2
#: Commands whose arguments end in a list of texts.
_TAKE_TEXTS = ("encode", "similarity", "rerank")

Command = Callable[[argparse.Namespace], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    stand_in_for_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name or a text that the terminal's encoding lacks is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("huggingface_hub").propagate = False  # it prints its messages itself
    name = next((word for word in words if not word.startswith("-")), "")
    with stdout_is_taken():
        return _guarded(name, lambda: _run(words, name))


def _run(words: list[str], name: str) -> None:
    parser = build_parser(name)
    if not words:
        parser.print_help()
        raise SystemExit(USAGE)
    # What follows "--" are texts, whatever they begin with.
    end = words.index("--") if "--" in words else len(words)
    parsed, unknown = parser.parse_known_args(words[:end])
    literal = words[end + 1 :]
    wrong = [*unknown, *literal]
    if parsed.core_name in _TAKE_TEXTS:
        # Texts after options: argparse gave the positional list its share before them.
        found = [*parsed.texts, *unknown]
        wrong = [word for word in found if _like_an_option(word)]
        parsed.texts = [*found, *literal]
    if len(wrong) == 1 and not _like_an_option(wrong[0]):
        _take_late(parsed, wrong)
    if wrong:
        _refuse(parsed, wrong)
    command: Command = parsed.core_command
    try:
        with logged_in_shell_words(parsed.core_parser), shown_stages():
            command(parsed)
    except CoreError as error:
        raise _Worded(error, in_shell_words(str(error), parsed.core_parser)) from error
    if isinstance(sys.stdout, ClosedStream) and sys.stdout.lost:
        raise CoreError("Standard output is closed, so what it was to show is lost.")
    sys.stdout.flush()


def _guarded(name: str, run: Callable[[], None]) -> int:
    """Run, and turn what is raised into a line on standard error and an exit code."""
    try:
        run()
    except SystemExit as stop:  # argparse: help, version, bad usage
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or DONE
        print(stop.code, file=sys.stderr)  # as Python does with what is no number
        return FAILED
    except _Worded as worded:
        print(f"core {name}: {worded}", file=sys.stderr)
        return USAGE if isinstance(worded.error, OptionError) else FAILED
    except OptionError as error:
        print(f"core {name}: {error}", file=sys.stderr)
        return USAGE
    except CoreError as error:
        print(f"core {name}: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `core ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        print(f"core {name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as stop:
        print(f"core {name}: {str(stop) or 'interrupted.'}", file=sys.stderr)
        return 130
    return DONE


class _Worded(Exception):  # noqa: N818 - a message on its way to standard error
    """A command's failure, in the words of the command line."""

    def __init__(self, error: CoreError, text: str) -> None:
        super().__init__(text)
        self.error = error


def _like_an_option(word: str) -> bool:
    """As argparse sees it: a dash in front and no blank."""
    return word.startswith("-") and " " not in word


def _take_late(parsed: argparse.Namespace, words: list[str]) -> None:
    """Give a word that stands after an option to the positional argument that may be left out:
    before Python 3.12 argparse takes that as left out once it comes to an option."""
    for action in parsed.core_parser._actions:
        if not action.option_strings and action.nargs == "?" and not getattr(parsed, action.dest):
            setattr(parsed, action.dest, words.pop())
            return


def _refuse(parsed: argparse.Namespace, words: list[str]) -> None:
    """End with the command's own usage and the option that may have been meant."""
    parser: argparse.ArgumentParser = parsed.core_parser
    options = [option for action in parser._actions for option in action.option_strings]
    close = [difflib.get_close_matches(word, options, n=1) for word in words]
    hints = sorted({match for matches in close for match in matches})
    hint = f" (did you mean {' or '.join(hints)}?)" if hints else ""
    if parsed.core_name in _TAKE_TEXTS and "-" in words:
        hint = " (texts from standard input: --input -)"
    parser.error(f"unrecognized arguments: {' '.join(words)}{hint}")


class _Parser(argparse.ArgumentParser):
    """Says which command may have been meant."""

    commands: tuple[str, ...] = ()

    def error(self, message: str) -> Any:
        if "invalid choice" in message and self.commands:
            word = message.partition("invalid choice: ")[2].split(" (choose", 1)[0].strip("'\"")
            close = difflib.get_close_matches(word, self.commands, n=1)
            hint = f" Did you mean `core {close[0]}`?" if close else ""
            message = f"there is no command {word!r}.{hint} Commands: {', '.join(self.commands)}."
        super().error(message)


def build_parser(named: str = "") -> argparse.ArgumentParser:
    """The parser of every command; importing the commands imports no runtime.

    Of the commands that distributions add, only the one `named` is imported.
    """
    from core import __version__
    from core.cli import (
        artifacts,
        batch,
        cache,
        demo,
        encode,
        models,
        publishing,
        rerank,
        scaffold,
        similarity,
        tune,
    )

    parser = _Parser(
        prog="core",
        description="Text embeddings through interchangeable inference backends.",
    )
    parser.add_argument("--version", action="version", version=f"core {__version__}")
    commands = parser.add_subparsers(
        dest="core_name", metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser
    )
    for module in (
        models, encode, similarity, rerank, batch, artifacts, publishing, tune, cache, demo,
        scaffold,
    ):  # fmt: skip
        module.add_commands(commands)
    own = tuple(commands.choices)
    for name, distribution in registry.commands().items():
        if name not in own:  # core's own commands cannot be replaced
            added = commands.add_parser(name, help=f"from {distribution}")
            if name == named:
                run = registry.command(name)(added)
                if not callable(run):
                    raise OptionError(
                        f"The command {name!r} of {distribution} returned "
                        f"{type(run).__name__}, not the function that runs it."
                    )
                # In names of core's own: a command may well have an option --name or --parser.
                added.set_defaults(core_command=functools.partial(_call, run))
    for name, command in commands.choices.items():
        command.set_defaults(core_parser=command, core_name=name)
    parser.commands = tuple(commands.choices)
    return parser


def _call(run: Command, parsed: argparse.Namespace) -> None:
    """Run an added command; a number it returns is the exit code."""
    code = run(parsed)
    if isinstance(code, int) and code:
        raise SystemExit(code)
