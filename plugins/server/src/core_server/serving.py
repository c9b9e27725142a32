"""The process that serves: sockets, signals, and an end that leaves no accepted request out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from core.errors import OptionError
from core_server.app import make_app
from core_server.service import Service

logger = logging.getLogger("core_server")

#: For so long after a signal, connections are answered and told to close; then they are closed. A
#: client that sends a request at that moment gets its answer, not a reset.
_FAREWELL_SECONDS = 0.5
_BACKLOG = 2_048
#: A connection that rests is closed after so long: later than clients and proxies close theirs, who
#: would else send a request into one that is just being closed.
_IDLE_SECONDS = 75
#: For so long beyond the time in which requests are answered, clients may read their answers when
#: the server ends.
_PATIENCE_SECONDS = 1
#: Bytes that may come before a head or its trailers end; what comes in one piece may be more.
_MOST_HEAD_BYTES = 65_536
#: What lasts is said once in so long.
_SAID_SECONDS = 10


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1, whatever else a client offers to speak, with heads that end.

    httptools ends with an offer (`Upgrade`, as Java's clients make it with a request), and drops
    the body. The head is read again without it.

    httptools and uvicorn keep what they read of a head, for as long as it lasts. Here it may be so
    large, and may take as long as a connection may rest. So long, too, a client may read nothing
    of an answer that waits for it.
    """

    _received = _again = b""
    _unended = 0  # bytes since a head, a piece of a body or a message ended
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._unpause()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        self._unpause()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        while data:
            self._received, self._again = data, b""
            self._unended += len(data)
            super().data_received(data)
            data = self._again
        if self.transport.is_closing():
            return
        if self._unended > _MOST_HEAD_BYTES:
            self._refuse_head()
        elif self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_timer is not None:  # else a trailer, which is no header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unended = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unended = 0
        super().on_message_complete()

    def _await_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self.timeout_keep_alive, self._is_read, unread)

    def _is_read(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:  # slowly
            self._await_reading()
        else:
            self.transport.abort()

    def _unpause(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.timeout_keep_alive, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.timeout_keep_alive_handler()
        else:  # nothing is read of a next request meanwhile
            self._await_head()

    def _head_came(self) -> None:
        self._unended = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self) -> None:
        text = f"The head of a request may have {_MOST_HEAD_BYTES} bytes."
        logger.warning("a connection is closed: %s", text)
        head = f"content-type: text/plain\r\ncontent-length: {len(text)}\r\nconnection: close"
        self.transport.write(STATUS_LINE[431] + f"{head}\r\n\r\n{text}".encode("ascii"))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return any(name == b"upgrade" for name, _ in self.headers)

    def _unsupported_upgrade_warning(self) -> None:
        """CONNECT: it is answered as any route that there is not."""

    def handle_websocket_upgrade(self) -> None:
        """An offer, of whatever protocol, whose head the parser has just read."""
        offered = sys.exception()
        assert isinstance(offered, httptools.HttpParserUpgrade)
        version = self.parser.get_http_version().encode()
        head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        head += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self._again = b"\r\n".join([*head, b"", b""]) + self._received[offered.args[0] :]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does


class Server(uvicorn.Server):
    """uvicorn, which ends by a signal in two steps, and leaves the exit code to the caller."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(service),
                http=_Protocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                backlog=_BACKLOG,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=int(service.settings.timeout) + _PATIENCE_SECONDS + 1,
            )
        )
        self._service = service
        self._said_full = -math.inf

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        loop = asyncio.get_running_loop()
        numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
        before = {number: signal.getsignal(number) for number in numbers}
        for number, handler in before.items():
            if number not in (signal.SIGINT, signal.SIGTERM) and handler is signal.SIG_IGN:
                continue  # started by `nohup`: it outlives its terminal
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.end))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self) -> None:
        """Answer what was accepted, then end; called again, end at once. On the event loop."""
        if self._service.draining:  # the second signal: at once
            self.force_exit = self.should_exit = True
            self._hang_up()
            return
        logger.info("ending: requests that were accepted are answered first")
        self._service.draining = True
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self._close_connections)

    def _close_connections(self) -> None:
        self.should_exit = True

    def _hang_up(self) -> None:
        """As if the clients had: uvicorn would cancel what answers them, and log it as a fault."""
        connections: Any = list(self.server_state.connections)
        if connections:
            logger.warning("ending: %d connections are cut off in mid-request", len(connections))
        for connection in connections:
            connection.transport.abort()

    def _explain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What fails outside of any request. asyncio tells thousands of times a second that it
        cannot accept connections, until some end."""
        error = context.get("exception")
        full = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
        if not (full and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() - self._said_full > _SAID_SECONDS:
            self._said_full = loop.time()
            logger.error(
                "new connections wait: this process has as many files and connections open as it "
                "may (%s). Raise the limit: `ulimit -n`, or LimitNOFILE of systemd",
                error,
            )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.start()
        asyncio.get_running_loop().set_exception_handler(self._explain)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        most = self._service.settings.timeout + _PATIENCE_SECONDS
        late = asyncio.get_running_loop().call_later(most, self._hang_up)
        await super().shutdown(sockets)
        late.cancel()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OptionError: The address is taken or is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise OptionError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Choose others with "
            "--host and --port."
        ) from error
    bound.set_inheritable(False)
    return bound


def address_of(bound: socket.socket) -> str:
    """The address of a bound socket, as a URL."""
    host, port, *_ = bound.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, bound: socket.socket, announce: Any = None) -> None:
    """Serve until a signal comes, then finish what was accepted.

    Args:
        announce: Called with the address when connections are accepted.
    """
    server = Server(service)

    async def serve() -> None:
        task = asyncio.create_task(server.serve([bound]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if announce is not None and not task.done():
            announce(address_of(bound))
        await task

    try:
        factory = server.config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve())
    finally:
        service.close()
