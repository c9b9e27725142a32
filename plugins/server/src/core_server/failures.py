"""What a client is told when a request fails, in the words of the interface it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Status to TEI's `error_type` and OpenAI's `type`.
_TYPES: Mapping[int, tuple[str, str]] = {
    400: ("Validation", "invalid_request_error"),
    401: ("Unauthorized", "authentication_error"),
    404: ("NotFound", "not_found_error"),
    405: ("Validation", "invalid_request_error"),
    408: ("Timeout", "timeout_error"),
    413: ("Validation", "invalid_request_error"),
    415: ("Validation", "invalid_request_error"),
    422: ("Validation", "invalid_request_error"),
    424: ("Backend", "backend_error"),
    429: ("Overloaded", "rate_limit_error"),
    500: ("Internal", "server_error"),
    503: ("Unhealthy", "service_unavailable"),
    504: ("Timeout", "timeout_error"),
}


class RequestFailedError(Exception):
    """A request that gets no result.

    Args:
        status: The HTTP status.
        message: For the client: what was found and what to do.
        param: The field at fault, as OpenAI's errors name it.
        code: A word for machines, as OpenAI's errors have it.
        retry_after: Seconds after which a repetition makes sense; None for no advice.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, where there is advice."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def tei_error(failure: RequestFailedError) -> dict[str, Any]:
    """`{"error", "error_type"}`, as Text Embeddings Inference answers."""
    return {"error": failure.message, "error_type": _TYPES[failure.status][0]}


def openai_error(failure: RequestFailedError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {
        "error": {
            "message": failure.message,
            "type": _TYPES[failure.status][1],
            "param": failure.param,
            "code": failure.code,
        }
    }


def cohere_error(failure: RequestFailedError) -> dict[str, Any]:
    """`{"message"}` of Cohere, and `{"detail"}` of Jina."""
    return {"message": failure.message, "detail": failure.message}
