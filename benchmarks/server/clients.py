"""Clients that cost next to nothing, so that the processors are left to the server.

HTTP/1.1 with connections that are kept, on bare asyncio: 30 to 50 microseconds a request.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Answers:
    """What came back.

    Attributes:
        seconds: From the first byte of each request to the last of its answer, by status.
        failed: Requests without an answer.
        elapsed: From the first request to the last; in a closed loop to the last answer.
        total_elapsed: From the first request to the last answer.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0
    elapsed: float = 0.0
    total_elapsed: float = 0.0

    def note(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def done(self) -> int:
        """Requests with a result."""
        return len(self.seconds.get(200, ()))

    def percentile(self, status: int, percent: float) -> float:
        """Seconds; NaN where no answer has this status."""
        found = self.seconds.get(status)
        return float(np.percentile(found, percent)) if found else float("nan")


class Connection:
    """One connection, opened when it is first needed and again when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """(status, body) of the answer."""
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length, closes = 0, False
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
            elif line == b"connection: close":
                closes = True
        body = await self._reader.readexactly(length)
        if closes:
            self.close()
        return status, body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def request_of(path: str, texts: str | Sequence[str], field_name: str) -> bytes:
    """A POST with one text, or several."""
    body = json.dumps({field_name: texts, "model": "model"}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def closed_loop(
    host: str, port: int, requests: Sequence[bytes], clients: int, seconds: float | None = None
) -> Answers:
    """So many clients, each with its next request as soon as it has an answer.

    Args:
        seconds: Begin again from the first request until so much time has passed; None sends each
            once.
    """
    answers = Answers()
    start = time.perf_counter()
    number = 0

    async def client() -> None:
        nonlocal number
        connection = Connection(host, port)
        while True:
            over = number >= len(requests) if seconds is None else _since(start) > seconds
            if over:
                break
            request = requests[number % len(requests)]
            number += 1
            before = time.perf_counter()
            try:
                status, _ = await connection.send(request)
            except (OSError, EOFError):
                answers.failed += 1
                connection.close()
                continue
            answers.note(status, time.perf_counter() - before)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    answers.elapsed = answers.total_elapsed = _since(start)
    return answers


async def open_loop(
    host: str, port: int, requests: Sequence[bytes], rate: float, seconds: float
) -> Answers:
    """So many requests a second, whatever becomes of those before: arrivals as Poisson's."""
    answers = Answers()
    idle: list[Connection] = []
    waiting: set[asyncio.Task[None]] = set()
    start = time.perf_counter()
    draws = random.Random(20_261_127)

    async def one(request: bytes) -> None:
        connection = idle.pop() if idle else Connection(host, port)
        before = time.perf_counter()
        try:
            status, _ = await connection.send(request)
        except (OSError, EOFError):
            answers.failed += 1
            connection.close()
            return
        answers.note(status, time.perf_counter() - before)
        idle.append(connection)

    due, number = 0.0, 0
    while due < seconds:
        pause = due - _since(start)
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(one(requests[number % len(requests)]))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        number += 1
        due += draws.expovariate(rate)
    answers.elapsed = _since(start)
    if waiting:
        await asyncio.wait(waiting)
    answers.total_elapsed = _since(start)
    for connection in idle:
        connection.close()
    return answers


def _since(start: float) -> float:
    return time.perf_counter() - start
