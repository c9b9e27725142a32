"""Reading texts from files: `.txt` (one a line) and `.jsonl` (one JSON value a line)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from core.errors import OptionError
from core.texts.inputs import lone_surrogate

TEXT_SUFFIXES = (".txt", ".jsonl")


def read_text_file(path: Path, field: str = "text") -> Iterator[str]:
    """The texts of a file, one by one; a .txt's empty lines are empty texts.

    Raises:
        OptionError: The file cannot be read, or a line is not what it should be; the message
            names the line.
    """
    if path.suffix not in TEXT_SUFFIXES:
        raise OptionError(f"Texts are read from .txt and .jsonl files, not from {str(path)!r}.")
    try:
        with path.open("rb") as file:
            lines = decode_lines(file, str(path))
            yield from lines if path.suffix == ".txt" else parse_fields(lines, str(path), field)
    except OSError as error:
        raise OptionError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """UTF-8 lines without their ends; `name` is the file's in messages."""
    for number, line in enumerate(lines, 1):
        try:
            # A byte-order mark can only stand at the very beginning.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(f"{name}, line {number}: not UTF-8 ({error.reason}).") from error
        yield text.rstrip("\r\n")


def parse_fields(lines: Iterable[str], name: str, field: str) -> Iterator[str]:
    """The field of each line's JSON object, or the line's JSON string; blank lines are skipped."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{name}, line {number}: not JSON ({error}).") from error
        text = record
        if isinstance(record, dict):
            if field not in record:
                fields = ", ".join(map(repr, record)) or "none"
                raise OptionError(
                    f"{name}, line {number}: no field {field!r}; it has {fields}. "
                    "Name one of them: field=..., or --field on the command line."
                )
            text = record[field]
        if not isinstance(text, str):
            shown = repr(text)[:60]
            raise OptionError(f"{name}, line {number}: the text is {shown}, not a string.")
        if found := lone_surrogate(text):
            raise OptionError(
                f"{name}, line {number}: the text {found}. It is half of a character that JSON "
                "writes as two escapes: mend the line."
            )
        yield text
