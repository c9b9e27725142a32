"""Every route: its path, what answers it, what it takes, and how it words errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from core_server.failures import RequestFailedError, cohere_error, openai_error, tei_error
from core_server.surfaces import openai, operation, rerank, tei

Wording = Callable[[RequestFailedError], dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One thing a client can ask for.

    Attributes:
        answer: Takes the exchange, and the body where there is one.
        body: The struct that its JSON body becomes; None for GET.
        summary: One line for the documentation.
        open: Whether it is answered without the key.
        example: A body to try.
    """

    paths: tuple[str, ...]
    answer: Callable[..., Awaitable[Response]]
    summary: str
    body: type | None = None
    wording: Wording = tei_error
    open: bool = False
    example: Mapping[str, Any] | None = None

    @property
    def method(self) -> str:
        """GET, or POST where it takes a body."""
        return "GET" if self.body is None else "POST"


_TEXTS = ["one text", "another"]
_QUERY = "what is a cat?"

OPERATIONS = (
    Operation(
        ("/v1/embeddings", "/embeddings"),
        openai.embeddings,
        "Embed texts, as OpenAI does.",
        openai.EmbeddingsRequest,
        openai_error,
        example={"input": _TEXTS},
    ),
    Operation(("/v1/models", "/models"), openai.models, "The models served.", None, openai_error),
    Operation(
        ("/v1/models/{model:path}", "/models/{model:path}"),
        openai.model,
        "One of them.",
        None,
        openai_error,
    ),
    Operation(
        ("/v1/rerank", "/v2/rerank"),
        rerank.rerank,
        "Order documents by a query, as Cohere and Jina do.",
        rerank.RerankRequest,
        cohere_error,
        example={"query": _QUERY, "documents": _TEXTS, "top_n": 1},
    ),
    Operation(
        ("/rerank",),
        rerank.either,
        "Order texts by a query, as Text Embeddings Inference does; or documents, as Cohere does.",
        rerank.EitherRequest,
        example={"query": _QUERY, "texts": _TEXTS},
    ),
    Operation(
        ("/embed",),
        tei.embed,
        "Embed texts: float32 [texts, dimension].",
        tei.EmbedRequest,
        example={"inputs": _TEXTS},
    ),
    Operation(
        ("/embed_all",),
        tei.embed_all,
        "Embed every token of texts: for each float32 [tokens, hidden].",
        tei.EmbedAllRequest,
        example={"inputs": _TEXTS},
    ),
    Operation(
        ("/embed_sparse",),
        tei.embed_sparse,
        "Embed texts with a sparse encoder: for each a list of index and value.",
        tei.EmbedSparseRequest,
        example={"inputs": _TEXTS},
    ),
    Operation(
        ("/predict",),
        tei.predict,
        "Score pairs of texts, with a label for each score.",
        tei.PredictRequest,
        example={"inputs": [_TEXTS]},
    ),
    Operation(
        ("/similarity",),
        tei.similarity,
        "Cosine of a sentence to others.",
        tei.SimilarityRequest,
        example={"inputs": {"source_sentence": _QUERY, "sentences": _TEXTS}},
    ),
    Operation(
        ("/tokenize",),
        tei.tokenize,
        "Tokens of texts, with their places in it.",
        tei.TokenizeRequest,
        example={"inputs": _TEXTS},
    ),
    Operation(
        ("/decode",),
        tei.decode,
        "Texts of token ids.",
        tei.DecodeRequest,
        example={"ids": [5, 6, 7]},
    ),
    Operation(
        ("/",),
        tei.root,
        "What the first model is for: embed, rerank or predict.",
        tei.RootRequest,
        example={"inputs": _TEXTS},
    ),
    Operation(("/info",), tei.info, "What is served, and its limits."),
    Operation(
        ("/health", "/health/ready", "/ready", "/ping"),
        operation.ready,
        "Readiness: 200 where every model works, else 503.",
        open=True,
    ),
    Operation(
        ("/health/live", "/live"), operation.live, "Liveness: 200 while it should run.", open=True
    ),
    Operation(("/metrics",), operation.metrics, "Metrics for Prometheus.", open=True),
)
