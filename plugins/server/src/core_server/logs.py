"""Logs as JSON, one line an event; no text of a client ever stands in one."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import orjson

#: The logger of one line for each request.
access = logging.getLogger("core_server.access")

_TOGETHER_SECONDS = 0.2


class JsonLines(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(line, default=str).decode()


class TogetherHandler(logging.StreamHandler[Any]):
    """Writes lines together, a few times a second; at once from warnings on, and at the end.

    Each write lets the threads that compute go first, which costs more than the write.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._written = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)
        now = time.monotonic()
        late = now - self._written > _TOGETHER_SECONDS
        if late or record.levelno >= logging.WARNING or record.name != access.name:
            self._written = now
            self.flush()

    def flush(self) -> None:
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
            if not self.stream.closed:
                self.stream.flush()


@contextmanager
def logged_as_json(level: str) -> Iterator[None]:
    """Let everything that is logged appear on standard error as JSON lines, for a while."""
    handler = TogetherHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    levels = {
        "": "WARNING",
        "core_server": level.upper(),
        "core": "WARNING",  # it shows progress bars at INFO
        "uvicorn": level.upper(),
        "uvicorn.access": "CRITICAL",  # its lines of requests know no ids
    }
    before = {name: logging.getLogger(name).level for name in levels}
    handlers = root.handlers[:]
    root.handlers[:] = [handler]
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    try:
        yield
    finally:
        handler.flush()
        root.handlers[:] = handlers
        for name, number in before.items():
            logging.getLogger(name).setLevel(number)
