"""Answers as bytes: JSON with arrays in it, and embeddings in base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from core.toolkit import ACTIVATIONS, unit_length
from core_server.failures import RequestFailedError


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Anything that JSON can say, numpy arrays included."""
    data = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(data, status, headers, media_type="application/json")


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
