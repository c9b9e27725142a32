"""What operators ask: does it live, is it ready, what does it do?"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from core_server.answers import json_answer
from core_server.exchange import Exchange
from core_server.metrics import CONTENT_TYPE


async def live(exchange: Exchange) -> Response:
    """Whether the process should be left alone: it answers, and its threads run."""
    alive = all(served.dispatcher.alive for served in exchange.service.models)
    return json_answer({"status": "ok" if alive else "dead"}, 200 if alive else 503)


async def ready(exchange: Exchange) -> Response:
    """Whether to send it requests: every model works, and the server is not ending."""
    service = exchange.service
    models: dict[str, Any] = {}
    for served in service.models:
        dispatcher = served.dispatcher
        models[served.name] = {"status": "ok" if dispatcher.up else "restarting"}
        processes = getattr(dispatcher.engine, "pids", None)
        if processes is not None:
            up = sum(pid is not None for pid in processes)
            models[served.name] |= {"processes": len(processes), "running": up}
            if dispatcher.up and up < len(processes):
                models[served.name]["status"] = "degraded"
    found = {one["status"] for one in models.values()}
    status = "ok"
    if service.draining:
        status = "draining"
    elif found != {"ok"}:
        status = "degraded" if service.ready else "unavailable"
    headers = None if service.ready else {"Retry-After": "1"}
    content = {"status": status, "models": models}
    return json_answer(content, 200 if service.ready else 503, headers)


async def metrics(exchange: Exchange) -> Response:
    return Response(exchange.service.metrics.page(), media_type=CONTENT_TYPE)
