"""Texts and token ids as clients send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from core_server.exchange import Exchange
from core_server.failures import RequestFailedError
from core_server.models import ServedModel

#: One text, the token ids of one text, or several of either.
TextInput = str | list[str | int | list[int]]

_MEND = (
    "Token ids mean nothing without their vocabulary, and this server has not been told the "
    "client's. Send texts (langchain: OpenAIEmbeddings(check_embedding_ctx_length=False)), or "
    "start the server with --client-tokenizer and the client's tokenizer.json."
)


async def texts_of(
    exchange: Exchange, given: TextInput, served: ServedModel, name: str
) -> list[str]:
    """The texts; ids are decoded beside the event loop.

    Raises:
        RequestFailedError: Token ids, where the vocabulary of clients was not declared; or a list
            of ids and texts.
    """
    if isinstance(given, str):
        return [given]
    if given and all(isinstance(one, int) for one in given):
        given = [cast("list[int]", given)]
    for position, one in enumerate(given):
        if isinstance(one, int):
            raise RequestFailedError(
                422,
                f"{name} mixes token ids and texts (position {position}). A list holds texts, or "
                "the ids of one text, or lists of ids.",
                param=name,
            )
    rows = cast("list[str | list[int]]", given)
    if any(not isinstance(one, str) for one in rows):
        return await exchange.in_thread(lambda: _decoded(rows, served))
    return cast("list[str]", rows)


def _decoded(rows: Sequence[str | list[int]], served: ServedModel) -> list[str]:
    vocabulary = served.client_vocabulary
    if vocabulary is None:
        raise RequestFailedError(422, _MEND, param="input", code="token_ids")
    return [one if isinstance(one, str) else vocabulary.decode(one) for one in rows]
