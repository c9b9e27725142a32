"""One request and its answer: the body is read and checked, and inputs are computed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from core_server.failures import RequestFailedError
from core_server.job import Call, Job
from core_server.models import ServedModel
from core_server.service import Service

TIMEOUT_HEADER = "x-request-timeout"

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client hung up: nobody is left to answer."""


class Exchange:
    """One request.

    Attributes:
        client: Who shares its turns with others: the address it came from.
        model: The name of the model that answered; "" before one is chosen.
        inputs, tokens: How much of it was computed, for logs and `usage`.
    """

    def __init__(self, service: Service, request: Request) -> None:
        self.service = service
        self.request = request
        self.client = request.client.host if request.client else ""
        self.model = ""
        self.inputs = 0
        self.tokens = 0

    def seconds(self) -> float:
        """How long the client waits for an answer.

        Raises:
            RequestFailedError: Its header is no number of seconds.
        """
        most = self.service.settings.timeout
        given = self.request.headers.get(TIMEOUT_HEADER)
        if given is None:
            return most
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise RequestFailedError(
                422, f"X-Request-Timeout must be a number of seconds, not {given[:40]!r}."
            )
        return min(seconds, most)

    async def within(self, answer: Callable[[], Awaitable[T]]) -> T:
        """An answer, if there is one in time.

        Raises:
            RequestFailedError: There is none (504).
        """
        seconds = self.seconds()
        try:
            async with asyncio.timeout(seconds):
                return await answer()
        except TimeoutError:
            raise RequestFailedError(
                504, f"There was no result within {seconds:g} seconds.", code="timeout"
            ) from None

    async def body(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body, checked against what the route takes.

        Raises:
            RequestFailedError: It is compressed (415), too large (413), too slow (408), no JSON
                (400), or something else than the route takes (422).
            ClientGoneError: The client hung up before its end.
        """
        settings = self.service.settings
        compressed = self.request.headers.get("content-encoding", "identity")
        if compressed.lower() != "identity":
            raise RequestFailedError(
                415, f"The body is compressed ({compressed[:40]!r}). Send it as it is."
            )
        try:
            async with asyncio.timeout(settings.body_timeout):
                data = await self._read(settings.max_body_bytes)
        except TimeoutError:
            raise RequestFailedError(
                408, f"The body did not arrive within {settings.body_timeout:g} seconds."
            ) from None
        if not data:
            raise RequestFailedError(400, "The body is empty. It must be JSON.")
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            raise RequestFailedError(422, f"{error}.".replace("..", ".")) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestFailedError(400, f"The body is no JSON: {error}.") from None
        except RecursionError:
            raise RequestFailedError(400, "The body is nested too deeply.") from None

    async def _read(self, limit: int) -> bytes:
        stated = self.request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def check_inputs(self, texts: Sequence[str], name: str) -> None:
        """Refuse too many texts, none at all, and texts that are too long.

        Raises:
            RequestFailedError: 413 or 422; it says the limit.
        """
        settings = self.service.settings
        if not texts:
            raise RequestFailedError(422, f"{name} is empty.", param=name)
        if len(texts) > settings.max_inputs:
            raise RequestFailedError(
                413,
                f"{name} has {len(texts)} entries, and one request may have "
                f"{settings.max_inputs}. Send them in several requests.",
                param=name,
            )
        self.check_texts(texts, name)

    def check_texts(self, texts: Sequence[str], name: str) -> None:
        """Refuse texts that are too long.

        Raises:
            RequestFailedError: 422; it says the limit.
        """
        most = self.service.settings.max_text_characters
        for position, text in enumerate(texts):
            if len(text) > most:
                raise RequestFailedError(
                    422,
                    f"{name}[{position}] has {len(text)} characters, and a text may have {most}.",
                    param=name,
                )

    async def compute(
        self,
        served: ServedModel,
        call: Call,
        inputs: Sequence[Any],
        *,
        truncate: bool = True,
    ) -> list[Any]:
        """What the model makes of inputs that were checked.

        Args:
            truncate: Whether inputs that are too long for the model are cut, not refused.

        Raises:
            RequestFailedError: It has no place (429), is too long (422), or the model fails on it.
            ClientGoneError: The client hung up.
        """
        self.model = served.name
        if not truncate:
            await self.in_thread(lambda: served.check_length(inputs, call))
        costs = served.dispatcher.lengths.estimate(inputs)
        self.inputs += len(inputs)
        loop = asyncio.get_running_loop()
        job = Job(self.client, call, inputs, costs, loop.create_future())
        served.dispatcher.submit(job)
        watcher = loop.create_task(self._watch(job))
        try:
            await job.future
        finally:
            watcher.cancel()
            served.dispatcher.cancel(job)  # which changes nothing where it is done
            self.tokens += job.tokens
        return job.results

    async def ends_of(self, served: ServedModel, texts: Sequence[str], prompt: str) -> list[str]:
        """The texts, the beginning of those cut away that the model would cut at their end.

        Raises:
            RequestFailedError: The backend takes text, and only it knows what it cuts.
        """
        served.check_knows_cuts("truncation_direction")
        most = served.model.max_seq_length
        if most is None:
            return list(texts)
        vocabulary = served.vocabulary

        def cut() -> list[str]:
            own = len(vocabulary.tokenize(prompt, add_special_tokens=False)) if prompt else 0
            room = max(most - vocabulary.special_tokens - own, 1)
            return [vocabulary.last_tokens(text, room) for text in texts]

        return await self.in_thread(cut)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call it beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.service.tokenizing, function)

    async def _watch(self, job: Job) -> None:
        """Notice a client that hangs up."""
        while True:
            message = await self.request.receive()
            if message["type"] == "http.disconnect":
                job.finish(ClientGoneError())
                return


def _too_large(limit: int) -> RequestFailedError:
    return RequestFailedError(
        413, f"The body is larger than {limit} bytes. Send the texts in several requests."
    )
