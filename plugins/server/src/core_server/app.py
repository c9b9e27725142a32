"""The ASGI application: routes, request ids, the key, and one line of log for each answer."""

from __future__ import annotations

import hmac
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core_server import openapi
from core_server.answers import json_answer
from core_server.exchange import ClientGoneError, Exchange
from core_server.failures import RequestFailedError, tei_error
from core_server.logs import access
from core_server.routes import OPERATIONS, Operation
from core_server.service import Service
from core_server.spans import Spans

logger = logging.getLogger("core_server")

#: Where a request's exchange stands in its ASGI scope, for the log.
_EXCHANGE = "core_server.exchange"
_ROUTE = "core_server.route"
_ID_HEADER = "x-request-id"
_SAFE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
#: nginx' status for a client that closed the connection; nobody receives it.
_CLIENT_GONE = 499

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(service: Service) -> ASGIApp:
    """The application of a service; `service.start()` lets its models compute."""
    routes = [
        Route(path, _endpoint(service, operation, path), methods=[operation.method])
        for operation in OPERATIONS
        for path in operation.paths
    ]
    keyed = service.settings.api_key is not None
    document = json_answer(openapi.document(OPERATIONS, keyed=keyed))
    page = HTMLResponse(openapi.page(OPERATIONS))

    async def describe(request: Request) -> Response:
        return document

    async def show(request: Request) -> Response:
        return page

    routes += [Route("/openapi.json", describe), Route("/docs", show)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
    return _Observed(app, service)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = f"{request.method} {request.url.path}"
    text = f"There is no route {found}. GET /docs lists them."
    failure = RequestFailedError(error.status_code, text)
    return json_answer(tei_error(failure), error.status_code, dict(error.headers or {}))


def _endpoint(service: Service, operation: Operation, path: str) -> Endpoint:
    """The function of one route, which never raises."""
    decoder = None if operation.body is None else msgspec.json.Decoder[Any](operation.body)
    key = None if operation.open else service.settings.api_key

    def refused(failure: RequestFailedError) -> Response:
        service.metrics.refused.labels(str(failure.status)).inc()
        return json_answer(operation.wording(failure), failure.status, failure.headers)

    async def answer(request: Request) -> Response:
        exchange = Exchange(service, request)
        request.scope[_EXCHANGE] = exchange
        request.scope[_ROUTE] = path
        try:
            if key is not None:
                _check_key(request, key)
            if decoder is None:
                return await operation.answer(exchange)
            with service.admitted():
                return await exchange.within(lambda: _compute(operation, exchange, decoder))
        except RequestFailedError as failure:
            return refused(failure)
        except msgspec.ValidationError as error:
            return refused(RequestFailedError(422, f"{error}."))
        except ClientGoneError:
            service.metrics.refused.labels("client gone").inc()
            return Response(status_code=_CLIENT_GONE)
        except Exception:
            logger.exception("a request failed in an unexpected way")
            return refused(RequestFailedError(500, "The server failed; its log says why."))

    return answer


async def _compute(
    operation: Operation, exchange: Exchange, decoder: msgspec.json.Decoder[Any]
) -> Response:
    return await operation.answer(exchange, await exchange.body(decoder))


def _check_key(request: Request, key: str) -> None:
    """Refuse a request without the key.

    Raises:
        RequestFailedError: 401.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = request.headers.get("api-key") or request.headers.get("x-api-key") or ""
    # Headers are latin-1 to Starlette, whatever bytes the client sent. They are compared whole: the
    # time that takes tells nothing of the key.
    if not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise RequestFailedError(
            401,
            "The key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
            code="invalid_api_key",
        )


class _Observed:
    """Around the application: request ids, metrics, the log, spans."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._spans = Spans() if service.settings.opentelemetry else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get(_ID_HEADER, "")
        identity = given if _SAFE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*message.get("headers", ()), (b"x-request-id", identity.encode())]
                if self._service.draining:
                    own.append((b"connection", b"close"))
                message = {**message, "headers": own}
            await send(message)

        with self._span(f"{scope['method']} {scope['path']}", headers) as attributes:
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                self._note(scope, identity, status, seconds, attributes)

    def _span(self, name: str, headers: Headers) -> AbstractContextManager[dict[str, Any]]:
        return nullcontext({}) if self._spans is None else self._spans.request(name, headers)

    def _note(
        self, scope: Scope, identity: str, status: int, seconds: float, attributes: dict[str, Any]
    ) -> None:
        metrics = self._service.metrics
        route = scope.get(_ROUTE, "other")
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route, str(status)).observe(seconds)
        # It holds the scope itself: a circle, for which the garbage collector would be needed.
        exchange: Exchange | None = scope.pop(_EXCHANGE, None)
        fields: dict[str, Any] = {
            "id": identity,
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1e3, 2),
        }
        counts: dict[str, Any] = {}
        if exchange is not None:
            fields["client"] = exchange.client
            if exchange.model:
                counts = {
                    "model": exchange.model,
                    "inputs": exchange.inputs,
                    "tokens": exchange.tokens,
                }
        attributes |= {"http.route": route, "http.response.status_code": status}
        attributes |= {f"core.{name}": value for name, value in counts.items()}
        if access.isEnabledFor(logging.INFO):
            access.info("request", extra={"fields": fields | counts})
