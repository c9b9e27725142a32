"""The stages of long operations, for whoever watches."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: At INFO it has a line for each stage of an export, an optimization or a quantization.
logger = logging.getLogger("core.progress")


def announce(text: str) -> None:
    """Say what begins now: "tracing the model"."""
    logger.info("%s", text)


@contextmanager
def shown_stages() -> Iterator[None]:
    """Print stages with the seconds since the start, if standard error is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    handler, level, propagate = _Lines(sys.stderr), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # or a root logger at INFO prints each line again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    def __init__(self, stream: object) -> None:
        super().__init__(stream)
        self._start = time.monotonic()

    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic() - self._start:5.0f} s  {record.getMessage()}"
