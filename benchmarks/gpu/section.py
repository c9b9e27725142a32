"""One section in a process of its own: what it finds, row by row, and how it ended.

An error of a kernel leaves a process's CUDA unusable, and a section may hang: neither reaches the
sections after it. Where it is a fork of a process that has imported the libraries and computed
nothing, it starts in no time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.gpu.plan import Setting

Row = dict[str, Any]
Section = Callable[[Setting], Iterator[Row]]

#: How a section's process is made, the better one first. CUDA works in no fork of a process in
#: which something has started it, as importing another library may.
METHODS = ("fork", "spawn")


class NotHereError(Exception):
    """This machine lacks what the section needs; the message says what."""


@dataclass(frozen=True)
class Ending:
    """How a section ended.

    Attributes:
        how: "done"; "skipped", where this machine lacks something; "failed"; "stopped", after its
            time.
        why: In words, unless it is done.
    """

    how: str
    why: str = ""


def run_section(
    section: Section,
    setting: Setting,
    seconds: float,
    keep: Callable[[Row], None],
    method: str = METHODS[0],
) -> Ending:
    """Run it for so many seconds at most; `keep` is called with every row as soon as there is one.

    Raises:
        BaseException: What `keep` raises, or a signal's handler; the process is gone then.
    """
    context: Any = multiprocessing.get_context(method)
    incoming, outgoing = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(section, setting, outgoing), daemon=True)
    process.start()
    outgoing.close()
    deadline = time.monotonic() + seconds
    try:
        while incoming.poll(max(deadline - time.monotonic(), 0)):
            try:
                kind, content = incoming.recv()
            except EOFError:
                process.join()
                return Ending("failed", f"its process ended with code {process.exitcode}")
            if kind != "row":
                return Ending(kind, content)
            keep(content)
        return Ending("stopped", f"after {seconds:.0f} seconds")
    finally:
        process.kill()
        process.join()


def _child(section: Section, setting: Setting, outgoing: Connection) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent's to handle
        signal.signal(number, signal.SIG_DFL)
    notes = _Notes()
    try:
        for row in section(setting):
            outgoing.send(("row", row | notes.taken()))
        ending = ("done", "")
    except NotHereError as error:
        ending = ("skipped", str(error))
    except BaseException as error:
        traceback.print_exc()
        ending = ("failed", in_words(error))
    outgoing.send(ending)
    sys.stderr.flush()
    os._exit(0)  # CUDA takes a second to be taken down, and nobody needs it again


class _Notes(logging.Handler):
    """What core says while rows are made: that memory ran out, that a dtype is not exact enough."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, None] = {}
        logger = logging.getLogger("core")
        # Below INFO, and not INFO itself, at which `encode` shows its progress.
        logger.setLevel(logging.INFO - 1)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._said[record.getMessage()] = None

    def taken(self) -> Row:
        """What was said since the last row, each message once."""
        said, self._said = list(self._said), {}
        return {"said": said} if said else {}


def in_words(error: BaseException) -> str:
    """What a record keeps of an error."""
    return f"{type(error).__name__}: {error}"[-2_000:]
