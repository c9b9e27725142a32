"""What a process may lack: a home, a place for temporary files, a terminal, a Python of its own.

Containers, services and frozen applications run without; what then fails says what to set.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from core.errors import CoreError

_NO_TEMPORARY = (
    "There is no directory for temporary files that this process may write to. Set TMPDIR to one "
    "(in a container with a read-only file system, mount one there)."
)


def expand_home(path: str | os.PathLike[str], variable: str | None = None) -> Path:
    """The path with `~` replaced.

    Args:
        variable: What to set to do without a home, for the message.

    Raises:
        CoreError: There is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        instead = (
            f", or set {variable} to a directory this process may write to" if variable else ""
        )
        raise CoreError(
            f"{os.fspath(path)!r} begins with a home directory that this system does not know: "
            f"HOME is not set, or there is no such user. Write the whole path{instead}."
        ) from error


def temporary_directory(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """A directory that is removed when the context ends.

    Raises:
        CoreError: There is no place for it.
    """
    try:
        return tempfile.TemporaryDirectory(prefix=prefix)
    except FileNotFoundError as error:
        raise CoreError(_NO_TEMPORARY) from error


def explain_surroundings(error: BaseException) -> CoreError | None:
    """The error to raise where a library lacked something of the above, else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FileNotFoundError) and "usable temporary directory" in str(cause):
            return CoreError(_NO_TEMPORARY)
        cause = cause.__cause__ or cause.__context__
    return None


def stderr_is_terminal() -> bool:
    """Whether somebody sees progress; applications without a console have no standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


class ClosedStream(io.TextIOBase):
    """In the place of a standard output or error that a process was started without.

    Attributes:
        lost: Whether anything was written.
    """

    encoding = "utf-8"
    lost = False

    def write(self, text: str) -> int:
        """Nobody sees it."""
        self.lost = True
        return len(text)


def stand_in_for_closed_streams() -> None:
    """Go on without a standard output or error (`>&-`), as a program that has one.

    Their numbers are taken: the next file to be opened would get them, with all that libraries
    in C write there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if number:
                setattr(sys, name, ClosedStream())


def is_frozen() -> bool:
    """Whether `sys.executable` is an application (PyInstaller, cx_Freeze), and not Python."""
    return bool(getattr(sys, "frozen", False)) or not sys.executable
