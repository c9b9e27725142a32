"""Clients that cost next to nothing, so that the processors are left to the server.

HTTP/1.1 with connections that are kept, on bare sockets: 30 to 50 microseconds a request. The
clients share the processors with the server, so what they see contains their own wait for one.
Linux notes when an answer reached their socket; that is the server's time.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

#: Linux' number of SO_TIMESTAMPNS, on every processor that core has wheels for, and the two 64-bit
#: numbers, seconds and nanoseconds since 1970, that come with what is read (socket(7)).
_TIMESTAMPS = 35
_TIMESTAMP = struct.Struct("qq")
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        seconds: From the moment when its request was written until its last byte reached the
            client's socket.
        seen: Until the client had read it. `seconds` is the same where the system notes no times.
    """

    status: int
    body: bytes
    seconds: float
    seen: float


@dataclass
class Answers:
    """What came back.

    Attributes:
        seconds, seen: Of each answer, by status.
        failed: Requests without an answer.
        elapsed: From the first request to the last; in a closed loop to the last answer.
        total_elapsed: From the first request to the last answer.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    seen: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0
    elapsed: float = 0.0
    total_elapsed: float = 0.0

    def note(self, answer: Answer) -> None:
        self.seconds.setdefault(answer.status, []).append(answer.seconds)
        self.seen.setdefault(answer.status, []).append(answer.seen)

    @property
    def done(self) -> int:
        """Requests with a result."""
        return len(self.seconds.get(200, ()))

    def percentile(self, status: int, percent: float, *, seen: bool = False) -> float:
        """Seconds; NaN where no answer has this status."""
        found = (self.seen if seen else self.seconds).get(status)
        return float(np.percentile(found, percent)) if found else float("nan")


class Connection:
    """One connection, opened when it is first needed and again when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._read = bytearray()
        self._sent = 0

    async def send(self, request: bytes) -> Answer:
        """The answer to a request.

        Raises:
            OSError: There is none.
        """
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._socket = await self._open(loop)
        self._answer = loop.create_future()
        self._sent = time.time_ns()
        await loop.sock_sendall(self._socket, request)
        return await self._answer

    async def _open(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        opened = socket.socket()
        opened.setblocking(False)
        try:
            await loop.sock_connect(opened, self._address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                opened.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        except BaseException:
            opened.close()
            raise
        loop.add_reader(opened, self._on_readable)
        return opened

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            part, notes, _, _ = self._socket.recvmsg(_READ_BYTES, 64)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not part:
            self._end(ConnectionResetError("the server closed the connection"))
            return
        seen = time.time_ns()
        self._read += part
        status, head, size = _head_of(self._read)
        if len(self._read) < size or not status:
            return
        arrived = next((_nanoseconds(data) for _, kind, data in notes if kind == _TIMESTAMPS), seen)
        body = bytes(self._read[len(head) : size])
        self._read.clear()
        answer, self._answer = self._answer, None
        if b"\r\nconnection: close\r\n" in head:
            self.close()
        if answer is not None and not answer.done():
            waits = (arrived - self._sent) / 1e9, (seen - self._sent) / 1e9
            answer.set_result(Answer(status, body, *waits))

    def _end(self, error: OSError) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        self._read.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def _head_of(read: bytearray) -> tuple[int, bytes, int]:
    """(status, lower-case head, size of the whole answer); (0, b"", 0) before the head is here."""
    end = read.find(b"\r\n\r\n")
    if end < 0:
        return 0, b"", 0
    head = bytes(read[: end + 4]).lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    length = int(rest[: rest.index(b"\r\n")]) if found else 0
    return int(head[9:12]), head, len(head) + length


def _nanoseconds(note: bytes) -> int:
    seconds, nanoseconds = _TIMESTAMP.unpack(note)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


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
            try:
                answers.note(await connection.send(request))
            except OSError:
                answers.failed += 1
                connection.close()
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
        try:
            answers.note(await connection.send(request))
        except OSError:
            answers.failed += 1
            connection.close()
            return
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
