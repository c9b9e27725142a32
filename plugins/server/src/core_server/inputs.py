"""Texts and token ids as clients send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from core_server.failures import RequestFailedError
from core_server.models import ServedModel

#: One text, the token ids of one text, or several of either.
TextInput = str | list[str | int | list[int]]

_MEND = (
    "Token ids mean nothing without their vocabulary, and this server has not been told the "
    "client's. Send texts (langchain: OpenAIEmbeddings(check_embedding_ctx_length=False)), or "
    "start the server with --client-tokenizer and the client's tokenizer.json."
)


def texts_of(given: TextInput, served: ServedModel, name: str) -> tuple[list[str], bool]:
    """(the texts, whether it was one alone).

    Raises:
        RequestFailedError: Token ids, where the vocabulary of clients was not declared; or a list
            of ids and texts.
    """
    if isinstance(given, str):
        return [given], True
    if given and all(isinstance(one, int) for one in given):
        return [_decoded(cast("list[int]", given), served)], True
    found = []
    for position, one in enumerate(given):
        if isinstance(one, int):
            raise RequestFailedError(
                422,
                f"{name} mixes token ids and texts (position {position}). A list holds texts, or "
                "the ids of one text, or lists of ids.",
                param=name,
            )
        found.append(one if isinstance(one, str) else _decoded(one, served))
    return found, False


def _decoded(ids: Sequence[int], served: ServedModel) -> str:
    vocabulary = served.client_vocabulary
    if vocabulary is None:
        raise RequestFailedError(422, _MEND, param="input", code="token_ids")
    return vocabulary.decode(ids)
