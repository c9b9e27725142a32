"""Who may talk to the server: this machine, pages that it served itself, users with a password."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from core.errors import OptionError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: The page needs nothing from any other host, and the browser holds it to that.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_DAY_SECONDS = 86_400
#: Against guessing.
_WRONG_PASSWORD_SECONDS = 1.0


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_auth(host: str, given: str | None) -> tuple[str, str] | None:
    """User and password; None where none is asked for.

    Raises:
        OptionError: Other machines reach the address and nothing is given, or what is given is not
            USER:PASSWORD.
    """
    if given is None:
        if is_loopback(host):
            return None
        raise OptionError(
            f"--host {host} lets other machines in, and the page writes files: "
            "pass --auth USER:PASSWORD too."
        )
    user, _, password = given.partition(":")
    if not user or not password:
        raise OptionError("--auth takes USER:PASSWORD, both not empty.")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise OptionError("--auth is not UTF-8, as browsers send it.") from None
    return user, password


class Guard:
    """Refuses what does not come from the page itself, and gives each browser a name.

    A site that the browser visits elsewhere can send requests to this server, directly or by a name
    that it lets point to 127.0.0.1 (DNS rebinding). The former have another `Origin`, the latter
    another `Host`.

    Args:
        app: What answers the rest.
        host: The address it listens on.
        cookie: What holds the browser's name.
        auth: User and password, if any are needed (RFC 7617).
    """

    def __init__(
        self, app: App, *, host: str, cookie: str, auth: tuple[str, str] | None = None
    ) -> None:
        self._app = app
        self._hosts = {"127.0.0.1", "localhost", "::1", host} if is_loopback(host) else None
        self._cookie = cookie
        self._auth = None if auth is None else ":".join(auth).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket, which the page does not use
            await send({"type": "websocket.close"})
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        wrong = self._wrong_sender(headers)
        if wrong:
            await _answer(send, 403, wrong)
            return
        if not self._may_enter(headers):
            await asyncio.sleep(_WRONG_PASSWORD_SECONDS if "authorization" in headers else 0)
            challenge = (b"www-authenticate", b'Basic realm="core ui", charset="UTF-8"')
            await _answer(send, 401, "User and password, please.", challenge)
            return
        added = [*_HEADERS]
        if browser_of(headers.get("cookie", b"").decode("latin-1"), self._cookie) is None:
            added.append((b"set-cookie", self._new_name()))

        async def marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, marked)

    def _wrong_sender(self, headers: dict[str, bytes]) -> str:
        host = headers.get("host", b"").decode("latin-1")
        if self._hosts is not None and _hostname(host) not in self._hosts:
            return f"This server is not {host!r}: open it by the address that `core ui` printed."
        origin = headers.get("origin")
        if origin is not None and _place(origin.decode("latin-1")) != host:
            return "Only the page itself may ask."
        return ""

    def _may_enter(self, headers: dict[str, bytes]) -> bool:
        if self._auth is None:
            return True
        scheme, _, given = headers.get("authorization", b"").partition(b" ")
        try:
            decoded = base64.b64decode(given, validate=True)
        except ValueError:
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(decoded, self._auth)

    def _new_name(self) -> bytes:
        name = secrets.token_urlsafe(24)
        return (
            f"{self._cookie}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={30 * _DAY_SECONDS}"
        ).encode()


def browser_of(cookies: str, name: str) -> str | None:
    """The browser's name in a `Cookie` header."""
    try:
        found = SimpleCookie(cookies).get(name)
    except CookieError:
        return None
    return found.value if found is not None and found.value else None


def _place(origin: str) -> str | None:
    """Host and port of an `Origin` header; None if it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", b"text/plain; charset=utf-8"), *headers],
    }
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})
