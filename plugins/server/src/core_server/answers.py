"""Answers as bytes: JSON with arrays in it, and embeddings in base64."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response, StreamingResponse

from core.toolkit import ACTIVATIONS, unit_length
from core_server.failures import RequestFailedError

#: Numbers that are written at once: about a millisecond, in which nobody else is answered.
_NUMBERS_AT_ONCE = 32_768
_JSON = "application/json"


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Anything that JSON can say, numpy arrays included."""
    return Response(as_json(content), status, headers, media_type=_JSON)


def json_list(
    rows: Sequence[Any] | NDArray[np.float32],
    sizes: Sequence[int],
    shown: Callable[[int, Any], Any],
    around: Mapping[str, Any] | None = None,
) -> Response:
    """A list; a long one in pieces, between which the event loop answers others.

    Args:
        sizes: How many numbers each row has.
        shown: What stands in JSON, of a row's position and the row.
        around: The object whose `data` the list is; None for the list alone.
    """
    head, tail = b"[", b"]"
    if around is not None:
        head, tail = as_json(around)[:-1] + b',"data":[', b"]}"

    def piece(start: int, stop: int) -> bytes:
        return as_json([shown(i, rows[i]) for i in range(start, stop)])[1:-1]

    if sum(sizes) <= _NUMBERS_AT_ONCE:
        return Response(head + piece(0, len(rows)) + tail, media_type=_JSON)

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for start, stop in _cut(sizes):
            yield (b"," if start else b"") + piece(start, stop)
            await asyncio.sleep(0)
        yield tail

    return StreamingResponse(pieces(), media_type=_JSON)


def _cut(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, stop) of pieces with so many numbers that are written at once, or one row."""
    start = numbers = 0
    for position, size in enumerate(sizes):
        if numbers and numbers + size > _NUMBERS_AT_ONCE:
            yield start, position
            start, numbers = position, 0
        numbers += size
    yield start, len(sizes)


def as_json(content: Any) -> bytes:
    """What `json_answer` and `json_list` write; `orjson.Fragment` holds what is JSON already."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def as_base64(row: NDArray[np.float32]) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii")


def finished(
    rows: Sequence[NDArray[np.float32]], *, dimensions: int | None, normalize: bool
) -> NDArray[np.float32]:
    """Embeddings as a request asks for them: float32 [inputs, dimensions].

    Truncated first, then scaled to length 1.

    Raises:
        RequestFailedError: The model's embeddings have fewer dimensions.
    """
    embeddings = np.stack(rows)
    if dimensions is not None:
        if not 0 < dimensions <= embeddings.shape[1]:
            raise RequestFailedError(
                422,
                f"dimensions={dimensions}: the model's embeddings have {embeddings.shape[1]}. "
                "Ask for that many or fewer.",
                param="dimensions",
            )
        embeddings = np.ascontiguousarray(embeddings[:, :dimensions])
    if normalize:
        embeddings = np.ascontiguousarray(unit_length(np, embeddings), dtype=np.float32)
    return embeddings


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of raw scores [inputs, labels]: sigmoid for one label, softmax for several."""
    if scores.shape[1] == 1:
        sigmoid: NDArray[np.float32] = ACTIVATIONS["Sigmoid"](np, scores)
        return sigmoid
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    softmax: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return softmax
