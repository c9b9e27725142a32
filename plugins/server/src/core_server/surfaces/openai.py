"""OpenAI's embeddings and models.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from starlette.responses import Response

from core_server.answers import as_base64, finished, json_answer, json_list
from core_server.exchange import Exchange
from core_server.failures import RequestFailedError
from core_server.inputs import TextInput, texts_of
from core_server.models import ServedModel


class EmbeddingsRequest(msgspec.Struct):
    """Texts to embed. Embeddings have length 1."""

    input: TextInput
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


async def embeddings(exchange: Exchange, body: EmbeddingsRequest) -> Response:
    served = exchange.service.models.choose(body.model, "dense")
    texts = await texts_of(exchange, body.input, served, "input")
    exchange.check_inputs(texts, "input")
    rows = await exchange.compute(served, served.call("dense"), texts)
    found = finished(rows, dimensions=body.dimensions, normalize=True)
    encode = as_base64 if body.encoding_format == "base64" else _as_is
    usage = {"prompt_tokens": exchange.tokens, "total_tokens": exchange.tokens}
    return json_list(
        found,
        [row.size for row in found],
        lambda index, row: {"object": "embedding", "index": index, "embedding": encode(row)},
        {"object": "list", "model": served.name, "usage": usage},
    )


def _as_is(row: Any) -> Any:
    return row


async def models(exchange: Exchange) -> Response:
    return json_answer(
        {"object": "list", "data": [_described(one) for one in exchange.service.models]}
    )


async def model(exchange: Exchange) -> Response:
    name = exchange.request.path_params["model"]
    for one in exchange.service.models:
        if name in (one.name, *one.aliases):
            return json_answer(_described(one))
    raise RequestFailedError(
        404, f"There is no model {name!r} here.", param="model", code="model_not_found"
    )


def _described(one: ServedModel) -> dict[str, Any]:
    return {
        "id": one.name,
        "object": "model",
        "created": one.created,
        "owned_by": "core",
        "kind": one.kind,
    }
