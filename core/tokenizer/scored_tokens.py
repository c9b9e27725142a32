"""Tokens by which a multi-vector model tells what gets a vector, as ids of its tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken

from core.architecture.architecture import Architecture
from core.architecture.late_interaction import LateInteraction
from core.errors import ModelFormatError
from core.files.source import Source
from core.tokenizer.settings import read_settings

logger = logging.getLogger("core")

#: Names of the mask token where no file states it.
_MASKS = ("[MASK]", "<mask>")


def register_prefixes(tokenizer: tokenizers.Tokenizer, rules: LateInteraction) -> None:
    """Have the marks in front of queries and documents found whole, where they are tokens.

    PyLate and Stanford's ColBERT put them there as ids; as text, a vocabulary's own `[unused0]`
    would be cut up.
    """
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    found = []
    for prefix in rules.prefixes:
        words = prefix.split(None, 1)
        for mark in (prefix, *words[:1]):
            if mark not in added and tokenizer.token_to_id(mark) is None:
                continue
            if tokenizer.encode(mark, add_special_tokens=False).tokens != [mark]:
                found.append(AddedToken(mark, normalized=False, special=True))
            break
    if found:
        tokenizer.add_special_tokens(found)


def skipped_ids(
    source: Source, tokenizer: tokenizers.Tokenizer, rules: LateInteraction, unknown: int | None
) -> list[int]:
    """Ids of the words that get no vector; a word that is no token has none, and is logged.

    Args:
        unknown: The unknown token's id; None where there is none.
    """
    found, missing = [], []
    for word in rules.skiplist_words:
        number = tokenizer.token_to_id(word)
        if number is None or (number == unknown and tokenizer.id_to_token(number) != word):
            missing.append(word)
        else:
            found.append(number)
    if missing:
        logger.info(
            "%s: skiplist_words has %s, which its vocabulary does not: no token is left out for "
            "them.",
            source,
            ", ".join(map(repr, missing)),
        )
    return found


def expansion_id(
    source: Source, architecture: Architecture, tokenizer: tokenizers.Tokenizer
) -> int:
    """The id of the token that fills queries up.

    Raises:
        ModelFormatError: The vocabulary does not have it.
    """
    rules = architecture.late_interaction
    expansion = None if rules is None else rules.expansion
    if expansion is None:
        return 0
    if expansion.token is not None:
        number = tokenizer.token_to_id(expansion.token)
        if number is None:
            raise ModelFormatError(
                f"{source}: query_expansion fills queries up with {expansion.token!r}, which is "
                "not in the tokenizer's vocabulary. Name another token, or restore the tokenizer."
            )
        return number
    settings = read_settings(source, architecture)
    stated = [_content(settings.get(name)) for name in ("mask_token", "eos_token")]
    for name in (stated[0], *_MASKS, stated[1]):
        number = None if name is None else tokenizer.token_to_id(name)
        if number is not None:
            return number
    raise ModelFormatError(
        f"{source}: query_expansion fills queries up with the tokenizer's mask token, and it has "
        "none, nor one that ends a text. Name a token in query_expansion."
    )


def _content(token: Any) -> str | None:
    value = token.get("content") if isinstance(token, Mapping) else token
    return value if isinstance(value, str) else None
