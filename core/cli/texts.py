"""The texts of a command: arguments, lines of a file or of standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from core.cli.arguments import as_utf8
from core.errors import CoreError, OptionError
from core.texts.text_files import TEXT_SUFFIXES, decode_lines, parse_fields, read_text_file


def add_texts(parser: argparse.ArgumentParser, what: str) -> None:
    """Texts as arguments or from a file.

    Args:
        what: What one is called: "text", "document".
    """
    parser.add_argument("texts", nargs="*", metavar=what.upper())
    parser.add_argument(
        "-i",
        "--input",
        metavar="FILE",
        help=f".txt (one {what} a line), .jsonl, or - for standard input",
    )
    parser.add_argument(
        "--field",
        help="which field of each .jsonl line (text); with --input - it says that lines are .jsonl",
    )


def check_input(parsed: argparse.Namespace, what: str) -> None:
    """Refuse an input that cannot be read before a model is loaded.

    Args:
        what: What is given: "texts", "documents".
    """
    if bool(parsed.texts) == bool(parsed.input):
        raise OptionError(
            f"give {what} as arguments or --input FILE (- for standard input), not both."
        )
    if parsed.texts:
        return
    name = str(parsed.input)
    if name == "-":
        if sys.stdin is None:
            raise CoreError("--input - reads standard input, which is closed.")
        return
    if not name.endswith(TEXT_SUFFIXES):
        raise OptionError(f"--input must end in .txt or .jsonl, or be -, not {name!r}.")
    try:
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise CoreError(f"Cannot read {name!r}: {error.strerror or error}.") from error


def read_texts(parsed: argparse.Namespace) -> Iterator[str]:
    """The texts of the arguments or of the input, which names the line that is wrong."""
    if parsed.texts:
        yield from map(as_utf8, parsed.texts)
        return
    name = str(parsed.input)
    try:
        if name == "-":
            lines = decode_lines(sys.stdin.buffer, "standard input")
            shown = "standard input"
            as_json = parsed.field is not None
            yield from parse_fields(lines, shown, parsed.field) if as_json else lines
        else:
            yield from read_text_file(Path(name), "text" if parsed.field is None else parsed.field)
    except OptionError as error:  # the data is wrong, not the usage
        raise CoreError(str(error)) from error
