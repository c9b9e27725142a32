"""Cohere's and Jina's rerank.

https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from starlette.responses import Response

from core_server.answers import json_answer, probabilities
from core_server.exchange import Exchange
from core_server.failures import RequestFailedError
from core_server.surfaces import tei

#: A text, or an object that has one.
Document = str | dict[str, Any]


class RerankRequest(msgspec.Struct):
    """A query, and documents to order by it. Scores lie between 0 and 1."""

    query: str
    documents: list[Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None


class EitherRequest(msgspec.Struct):
    """A query with `documents` as Cohere's and Jina's clients send it, or with `texts` as those of
    Text Embeddings Inference."""

    query: str
    documents: list[Document] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    truncate: bool | None = None
    truncation_direction: tei.Direction | None = None


async def rerank(exchange: Exchange, body: RerankRequest) -> Response:
    texts = [_text(one, i, body.rank_fields) for i, one in enumerate(body.documents)]
    exchange.check_inputs(texts, "documents")
    exchange.check_texts([body.query], "query")
    if body.top_n is not None and body.top_n < 1:
        raise RequestFailedError(422, f"top_n={body.top_n}: ask for 1 or more.", param="top_n")
    raw = await tei.ranking_scores(exchange, body.model, body.query, texts)
    scores = probabilities(raw)
    results = []
    for index in tei.best_first(raw)[: body.top_n]:
        entry: dict[str, Any] = {"index": index, "relevance_score": float(scores[index, 0])}
        if body.return_documents:
            document = body.documents[index]
            entry["document"] = {"text": document} if isinstance(document, str) else document
        results.append(entry)
    version = "2" if exchange.request.url.path.startswith("/v2") else "1"
    return json_answer(
        {
            "id": str(uuid.uuid4()),
            "object": "list",
            "model": exchange.model,
            "results": results,
            "usage": {"prompt_tokens": exchange.tokens, "total_tokens": exchange.tokens},
            "meta": {
                "api_version": {"version": version},
                "billed_units": {"search_units": 1},
            },
        }
    )


async def either(exchange: Exchange, body: EitherRequest) -> Response:
    if body.documents is not None:
        return await rerank(
            exchange,
            RerankRequest(
                body.query,
                body.documents,
                body.model,
                body.top_n,
                body.return_documents,
                body.rank_fields,
            ),
        )
    if body.texts is None:
        raise RequestFailedError(422, "The body has neither `texts` nor `documents`.")
    return await tei.rerank(
        exchange,
        tei.RerankRequest(
            query=body.query,
            texts=body.texts,
            model=body.model,
            raw_scores=body.raw_scores,
            return_text=body.return_text,
            truncate=body.truncate,
            truncation_direction=body.truncation_direction,
        ),
    )


def _text(document: Document, position: int, fields: list[str] | None) -> str:
    """The text of a document; of `rank_fields`, one after the other."""
    if isinstance(document, str):
        return document
    names = fields or ["text"]
    found = [document.get(name) for name in names]
    if not all(isinstance(one, str) for one in found):
        raise RequestFailedError(
            422,
            f"documents[{position}] has no text in {', '.join(map(repr, names))}.",
            param="documents",
        )
    return "\n".join(str(one) for one in found)
