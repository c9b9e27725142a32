"""A client of the OpenAI embeddings API on the standard library.

Request and response: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelNotFound, OptionError, PluginError

logger = logging.getLogger("core.http_backend")

#: Answers that another attempt may change.
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


@dataclass(frozen=True)
class Settings:
    """What a request needs; see the README."""

    base_url: str
    model: str
    api_key: str = ""
    batch_size: int = 64
    workers: int = 4
    timeout: float = 60.0
    retries: int = 4
    dimensions: int | None = None

    def __post_init__(self) -> None:
        address = urllib.parse.urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise OptionError(f"base_url must read http://host/v1, not {self.base_url!r}.")
        for name, least in (("batch_size", 1), ("workers", 1), ("retries", 0), ("dimensions", 1)):
            value = getattr(self, name)
            if value is None and name == "dimensions":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} must be {least} or more, not {value!r}.")
        if not isinstance(self.timeout, int | float) or self.timeout <= 0:
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout!r}.")


class _Refused(Exception):  # noqa: N818 - what a server did, on its way to a message
    """An answer that is not an embedding."""

    def __init__(self, status: int, message: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Client:
    """Embeds texts in requests of `batch_size`, `workers` of them at once.

    Connections are kept open, one per thread and server.
    """

    def __init__(self, settings: Settings, connections: _Connections | None = None) -> None:
        self.settings = settings
        self._connections = connections or _Connections(settings)

    def with_settings(self, settings: Settings) -> Self:
        """The same connections with other sizes."""
        return type(self)(settings, self._connections)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [len(texts), dimension], in their order.

        Raises:
            PluginError: The server still failed after the last attempt, or answered nonsense.
            ModelNotFound: It does not know the model.
            OptionError: It refuses the key.
        """
        size = self.settings.batch_size
        # Equal texts are paid for once; the API does not take an empty text.
        unique = list(dict.fromkeys(text or " " for text in texts))
        batches = [unique[start : start + size] for start in range(0, len(unique), size)]
        if len(batches) == 1:
            rows = self._request(batches[0])
        else:
            workers = min(self.settings.workers, len(batches))
            with ThreadPoolExecutor(workers, thread_name_prefix="core-http") as pool:
                rows = np.concatenate(list(pool.map(self._request, batches)))
        if len(unique) == len(texts):
            return rows
        position = {text: row for row, text in enumerate(unique)}
        return rows[[position[text or " "] for text in texts]]

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _request(self, texts: list[str]) -> NDArray[np.float32]:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "input": texts,
            "encoding_format": "base64",
        }
        if self.settings.dimensions is not None:
            body["dimensions"] = self.settings.dimensions
        data = json.dumps(body).encode()
        for attempt in range(self.settings.retries + 1):
            try:
                return self._rows(self._post(data), len(texts))
            except (_Refused, OSError, http.client.HTTPException) as error:
                self._connections.drop()
                if attempt == self.settings.retries or not _may_pass(error):
                    raise self._error(error, attempt + 1) from error
                wait = _wait(attempt, error)
                logger.info("%s: %s; again in %.1f s", self.settings.base_url, error, wait)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _post(self, data: bytes) -> bytes:
        connection, path = self._connections.get()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.settings.api_key:
            headers["Authorization"] = f"Bearer {self.settings.api_key}"
        connection.request("POST", f"{path}/embeddings", data, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            retry_after = response.getheader("Retry-After")
            raise _Refused(response.status, _message(content, response), retry_after)
        return content

    def _rows(self, content: bytes, count: int) -> NDArray[np.float32]:
        try:
            items = json.loads(content)["data"]
            ordered = sorted(items, key=lambda item: item["index"])
            if [item["index"] for item in ordered] != list(range(count)):
                raise ValueError(f"{len(items)} embeddings for {count} texts")
            return np.array([_vector(item["embedding"]) for item in ordered], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise PluginError(
                f"{self.settings.base_url} answered something else than embeddings: {error}. Check "
                "that base_url is that of an OpenAI-compatible API."
            ) from error

    def _error(self, error: Exception, attempts: int) -> Exception:
        where, tries = self.settings.base_url, f"{attempts} attempt{'s' * (attempts > 1)}"
        if isinstance(error, _Refused):
            if error.status in (401, 403):
                return OptionError(
                    f"{where} refuses the key ({error.status}: {error}). Set OPENAI_API_KEY, or "
                    "pass model_kwargs={'api_key': ...}."
                )
            if error.status == 404:
                return ModelNotFound(
                    f"{where} has no model {self.settings.model!r}, or is not the address of the "
                    f"API ({error.status}: {error})."
                )
            return PluginError(f"{where} answered {error.status} after {tries}: {error}.")
        kind = f"no answer within {self.settings.timeout} s" * isinstance(error, TimeoutError)
        return PluginError(
            f"{where} cannot be reached after {tries}: {kind or error or type(error).__name__}. "
            "Check base_url, and that the server runs."
        )


class _Connections:
    """An open connection for each thread."""

    def __init__(self, settings: Settings) -> None:
        self._address = urllib.parse.urlsplit(settings.base_url)
        self._timeout = settings.timeout
        self._local = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def get(self) -> tuple[http.client.HTTPConnection, str]:
        """This thread's connection, and the path of the API on it."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._address.hostname or "", self._address.port
            if self._address.scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=context
                )
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
            self._local.connection = connection
            with self._lock:
                self._all.append(connection)
        return connection, self._address.path.rstrip("/")

    def drop(self) -> None:
        """Close this thread's connection: after a failure its state is unknown."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
            with self._lock:
                self._all.remove(connection)

    def close(self) -> None:
        """Close every thread's."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, _Refused) or error.status in _PASSING


def _wait(attempt: int, error: Exception) -> float:
    stated = error.retry_after if isinstance(error, _Refused) else None
    try:
        return min(float(stated or ""), _LONGEST_WAIT)
    except ValueError:  # none, or a date
        longest: float = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
        return longest * random.uniform(0.5, 1)


def _message(content: bytes, response: http.client.HTTPResponse) -> str:
    try:
        error = json.loads(content)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return response.reason or "no reason given"


def _vector(value: Any) -> Any:
    """Base64 of little-endian float32, or a list where a server knows no base64."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    return value
