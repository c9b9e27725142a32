"""The routes of Text Embeddings Inference.

https://huggingface.github.io/text-embeddings-inference
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from starlette.responses import Response

import core
from core_server.answers import as_json, finished, json_answer, json_list, probabilities
from core_server.exchange import Exchange
from core_server.failures import RequestFailedError
from core_server.inputs import TextInput, texts_of
from core_server.models import MULTI_VECTOR, RERANKER, SPARSE, ServedModel

#: Its id, and where it begins and ends.
_NUMBERS_OF_A_TOKEN = 3

#: Which end of a text is cut away.
Direction = Literal["Left", "Right", "left", "right"]

#: One text, one pair, or several of either, each in a list.
PredictInput = str | list[str | list[str]]


class Truncation(msgspec.Struct):
    """What happens to inputs longer than the model reads."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None

    @property
    def refuses(self) -> bool:
        return self.truncate is False

    @property
    def keeps_the_end(self) -> bool:
        return (self.truncation_direction or "").lower() == "left"


class EmbedRequest(Truncation, kw_only=True):
    """Texts to embed."""

    inputs: TextInput
    model: str | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None


class EmbedAllRequest(Truncation, kw_only=True):
    """Texts, of which every token is embedded."""

    inputs: TextInput
    model: str | None = None
    prompt_name: str | None = None


class EmbedSparseRequest(EmbedAllRequest, kw_only=True):
    """Texts to embed in as many dimensions as there are tokens."""


class RerankRequest(Truncation, kw_only=True):
    """A query, and texts to order by it."""

    query: str
    texts: list[str]
    model: str | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


class PredictRequest(Truncation, kw_only=True):
    """Pairs of texts to classify."""

    inputs: PredictInput
    model: str | None = None
    raw_scores: bool | None = None


class Sentences(msgspec.Struct):
    """A sentence, and others to compare with it."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Truncation, kw_only=True):
    """How sentences are embedded."""

    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct):
    """Sentences to compare."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None
    model: str | None = None


class TokenizeRequest(msgspec.Struct):
    """Texts to tokenize."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None
    model: str | None = None


class DecodeRequest(msgspec.Struct):
    """Token ids to turn into text."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True
    model: str | None = None


class RootRequest(Truncation, kw_only=True):
    """What the first model is for: `/embed`, `/embed_sparse`, `/embed_all` or `/predict`; also
    `/rerank` where there is a query, `/similarity` where `inputs` has sentences to compare."""

    inputs: str | list[Any] | Sentences | None = None
    query: str | None = None
    texts: list[str] | None = None
    parameters: dict[str, Any] | None = None
    model: str | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


async def embed(exchange: Exchange, body: EmbedRequest) -> Response:
    served = exchange.service.models.choose(body.model, "dense")
    rows = await _embedded(exchange, served, "dense", body)
    normalize = body.normalize is not False
    found = finished(rows, dimensions=body.dimensions, normalize=normalize)
    return json_list(found, [row.size for row in found], lambda _, row: row)


async def embed_all(exchange: Exchange, body: EmbedAllRequest) -> Response:
    served = exchange.service.models.choose(body.model, "tokens")
    rows = await _embedded(exchange, served, "tokens", body)
    return json_list(rows, [row.size for row in rows], lambda _, row: np.ascontiguousarray(row))


async def embed_sparse(exchange: Exchange, body: EmbedSparseRequest) -> Response:
    served = exchange.service.models.choose(body.model, "sparse")
    rows: list[core.SparseEmbeddings] = await _embedded(exchange, served, "sparse", body)

    def shown(_: int, row: core.SparseEmbeddings) -> list[dict[str, Any]]:
        # float32 as they are: as Python's floats they would have twice as many digits
        pairs = zip(row.indices.tolist(), row.values, strict=True)
        return [{"index": index, "value": value} for index, value in pairs]

    return json_list(rows, [row.values.size for row in rows], shown)


async def _embedded(
    exchange: Exchange,
    served: ServedModel,
    task: str,
    body: EmbedRequest | EmbedAllRequest,
) -> list[Any]:
    texts = await texts_of(exchange, body.inputs, served, "inputs")
    exchange.check_inputs(texts, "inputs")
    call = served.call(task, body.prompt_name)
    if body.keeps_the_end and not body.refuses:
        texts = await exchange.ends_of(served, texts, call.prompt)
    return await exchange.compute(served, call, texts, truncate=not body.refuses)


async def rerank(exchange: Exchange, body: RerankRequest) -> Response:
    exchange.check_inputs(body.texts, "texts")
    exchange.check_texts([body.query], "query")
    raw = await ranking_scores(exchange, body.model, body.query, body.texts, body)
    scores = raw if body.raw_scores else probabilities(raw)
    found = [
        {"index": index, "score": float(scores[index, 0])}
        | ({"text": body.texts[index]} if body.return_text else {})
        for index in best_first(raw)
    ]
    return json_answer(found)


async def ranking_scores(
    exchange: Exchange,
    name: str | None,
    query: str,
    texts: Sequence[str],
    truncation: Truncation | None = None,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A score for each text, before any activation function: float32 [texts, 1]."""
    served = exchange.service.models.choose(name, "scores")
    if len(served.model.labels) != 1:
        raise RequestFailedError(
            422,
            f"{served.name!r} gives {len(served.model.labels)} scores for a pair, and texts are "
            "ordered by one. /predict has all of them.",
            param="model",
        )
    pairs = [(query, text) for text in texts]
    rows = await _scored(exchange, served, pairs, truncation or Truncation())
    return np.asarray(rows, dtype=np.float32).reshape(len(pairs), 1)


async def _scored(
    exchange: Exchange,
    served: ServedModel,
    pairs: Sequence[tuple[str, str]],
    truncation: Truncation,
) -> list[Any]:
    call = served.call("scores")
    if truncation.keeps_the_end and not truncation.refuses:
        otherwise = 'let the server cut its end: pairs have no "truncation_direction": "Left"'
        await exchange.in_thread(lambda: served.check_length(pairs, call, otherwise))
    return await exchange.compute(served, call, pairs, truncate=not truncation.refuses)


def best_first(scores: np.ndarray[Any, np.dtype[np.float32]]) -> list[int]:
    """Positions by raw score, equal ones in their order.

    Far from 0, many raw scores have the same sigmoid.
    """
    order: list[int] = np.argsort(-scores[:, 0], kind="stable").tolist()
    return order


async def predict(exchange: Exchange, body: PredictRequest) -> Response:
    served = exchange.service.models.choose(body.model, "scores")
    pairs, single = _pairs(body.inputs)
    exchange.check_inputs([first for first, _ in pairs], "inputs")
    exchange.check_texts([second for _, second in pairs], "inputs")
    rows = await _scored(exchange, served, pairs, body)
    labels = served.model.labels
    raw = np.asarray(rows, dtype=np.float32).reshape(len(pairs), len(labels))
    scores = raw if body.raw_scores else probabilities(raw)
    order = np.argsort(-raw, axis=1, kind="stable")
    found = [
        [{"score": row[i], "label": labels[i]} for i in positions]
        for row, positions in zip(scores.tolist(), order.tolist(), strict=True)
    ]
    return json_answer(found[0] if single else found)


def _pairs(given: PredictInput) -> tuple[list[tuple[str, str]], bool]:
    """(pairs, whether it was one alone)."""
    if not given:
        raise RequestFailedError(422, "inputs is empty.", param="inputs")
    single = isinstance(given, str) or not any(isinstance(one, list) for one in given)
    rows = [given] if single else given
    found = []
    for position, row in enumerate(rows):
        texts = [row] if isinstance(row, str) else row
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise RequestFailedError(
                422,
                f"inputs, entry {position}: the model scores pairs of texts, and this is not two "
                'of them. Send ["first", "second"], or a list of such lists.',
                param="inputs",
            )
        found.append((str(texts[0]), str(texts[1])))
    return found, single


async def similarity(exchange: Exchange, body: SimilarityRequest) -> Response:
    served = exchange.service.models.choose(body.model, "dense")
    parameters = body.parameters or SimilarityParameters()
    exchange.check_inputs(body.inputs.sentences, "sentences")
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    exchange.check_texts(texts[:1], "source_sentence")
    call = served.call("dense", parameters.prompt_name)
    if parameters.keeps_the_end and not parameters.refuses:
        texts = await exchange.ends_of(served, texts, call.prompt)
    rows = await exchange.compute(served, call, texts, truncate=not parameters.refuses)
    found = finished(rows, dimensions=None, normalize=True)
    return json_answer(found[1:] @ found[0])


async def tokenize(exchange: Exchange, body: TokenizeRequest) -> Response:
    served = exchange.service.models.choose(body.model, "tokenize")
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    exchange.check_inputs(texts, "inputs")
    prompt = "" if body.prompt_name is None else served.prompt(body.prompt_name)
    vocabulary = served.vocabulary

    def tokenized(text: str) -> tuple[int, bytes]:
        found = vocabulary.tokenize(prompt + text, add_special_tokens=body.add_special_tokens)
        return len(found), as_json(found)

    rows = await exchange.in_thread(lambda: [tokenized(text) for text in texts])
    sizes = [_NUMBERS_OF_A_TOKEN * tokens for tokens, _ in rows]
    return json_list(rows, sizes, lambda _, row: orjson.Fragment(row[1]))


async def decode(exchange: Exchange, body: DecodeRequest) -> Response:
    served = exchange.service.models.choose(body.model, "tokenize")
    flat = [one for one in body.ids if isinstance(one, int)]
    if flat and len(flat) != len(body.ids):
        raise RequestFailedError(422, "ids mixes numbers and lists of them.", param="ids")
    rows = [flat] if flat else [one for one in body.ids if isinstance(one, list)]
    if not rows:
        raise RequestFailedError(422, "ids is empty.", param="ids")
    vocabulary = served.vocabulary
    found = await exchange.in_thread(
        lambda: [
            vocabulary.decode(row, skip_special_tokens=body.skip_special_tokens) for row in rows
        ]
    )
    return json_answer(found)


async def root(exchange: Exchange, body: RootRequest) -> Response:
    """`InferenceClient` posts to the address as it is given."""
    shared: dict[str, Any] = {
        "model": body.model,
        "truncate": body.truncate,
        "truncation_direction": body.truncation_direction,
    }
    if isinstance(body.inputs, Sentences):
        parameters = msgspec.convert(body.parameters or {}, SimilarityParameters)
        return await similarity(exchange, SimilarityRequest(body.inputs, parameters, body.model))
    if body.query is not None and body.texts is not None:
        shared |= {"raw_scores": body.raw_scores, "return_text": body.return_text}
        return await rerank(exchange, RerankRequest(query=body.query, texts=body.texts, **shared))
    if body.inputs is None:
        raise RequestFailedError(422, "The body has no `inputs`.", param="inputs")
    models = exchange.service.models
    named = [one for one in models if body.model in (one.name, *one.aliases)]
    kind = (named or list(models))[0].kind
    if kind == RERANKER:
        pairs = msgspec.convert(body.inputs, PredictInput)
        shared |= {"inputs": pairs, "raw_scores": body.raw_scores}
        return await predict(exchange, PredictRequest(**shared))
    texts = msgspec.convert(body.inputs, TextInput)
    shared |= {"inputs": texts, "prompt_name": body.prompt_name}
    if kind == SPARSE:
        return await embed_sparse(exchange, EmbedSparseRequest(**shared))
    if kind == MULTI_VECTOR:
        return await embed_all(exchange, EmbedAllRequest(**shared))
    shared |= {"normalize": body.normalize, "dimensions": body.dimensions}
    return await embed(exchange, EmbedRequest(**shared))


async def info(exchange: Exchange) -> Response:
    service = exchange.service
    first = service.models.served[0]
    facts = first.facts
    if first.kind == RERANKER:
        labels = {str(i): label for i, label in enumerate(facts["labels"])}
        word = "reranker" if len(labels) == 1 else "classifier"
        kind = {word: {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}}
    else:
        kind = {"embedding": {"pooling": facts.get("pooling", first.kind)}}
    return json_answer(
        {
            "model_id": first.name,
            "model_sha": facts["revision"],
            "model_dtype": facts["dtype"],
            "model_type": kind,
            "max_concurrent_requests": service.settings.max_concurrent,
            "max_input_length": facts["max_input_length"],
            "max_batch_tokens": facts["max_batch_tokens"],
            "max_batch_requests": None,
            "max_client_batch_size": service.settings.max_inputs,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": core.__version__,
            "sha": None,
            "docker_label": None,
            "models": [{"id": one.name, "kind": one.kind, **one.facts} for one in service.models],
        }
    )
