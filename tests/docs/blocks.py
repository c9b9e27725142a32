"""The code blocks of a Markdown page, in order."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^\n`]*)$")
_NOT_RUN = re.compile(r"<!--\s*not run:(?P<reason>.*?)-->\s*$", re.DOTALL)
_TITLE = re.compile(r"""title=["'](?P<title>[^"']+)["']""")

#: What a block's language makes of it.
PYTHON = ("python", "py")
SHELL = ("bash", "sh", "shell")
CONSOLE = ("console", "pycon")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: Where it stands.
        line: Of its first line of code, counted from 1.
        language: "" where none is stated.
        code: Without the fence's indentation.
        title: Of a block that is a file: `title="texts.txt"`.
        reason: Why it is not run; None where it is.
    """

    page: Path
    line: int
    language: str
    code: str
    title: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    start, opening = 0, None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if opening is None:
            if fence:
                start, opening = number, fence
        elif fence and fence["mark"].startswith(opening["mark"]) and not fence["info"].strip():
            found.append(_block(page, lines, start, number, opening))
            opening = None
    assert opening is None, f"{page.name}:{start + 1}: this block is never closed"
    return found


def _block(page: Path, lines: list[str], start: int, end: int, opening: re.Match[str]) -> Block:
    info = opening["info"].strip()
    language = re.split(r"[\s{]", info, maxsplit=1)[0].lower()
    title = _TITLE.search(info)
    before = "\n".join(lines[max(start - 6, 0) : start])
    skipped = _NOT_RUN.search(before)
    return Block(
        page=page,
        line=start + 2,
        language=language,
        code=textwrap.dedent("\n".join(lines[start + 1 : end])) + "\n",
        title=title["title"] if title else None,
        reason=" ".join(skipped["reason"].split()) if skipped else None,
    )
