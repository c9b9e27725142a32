"""Tokens that other files add to those of tokenizer.json, as transformers adds them.

A token that the vocabulary has keeps its number and is from then on found whole; a new one gets
the next number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
import tokenizers.processors
from tokenizers import AddedToken

from core.architecture.architecture import Architecture
from core.errors import ModelFormatError
from core.files.source import Source
from core.tokenizer.settings import SPECIAL_TOKENS, TOKEN_LISTS

logger = logging.getLogger("core")

#: transformers' classes, and model types, whose first and last tokens are the class's own.
_OWN_ENDS = (
    "albert", "bert", "bigbird", "camembert", "clip", "codegen", "deberta", "debertav2",
    "distilbert", "electra", "funnel", "herbert", "layoutlm", "layoutlmv2", "layoutlmv3",
    "layoutxlm", "luke", "markuplm", "mbart", "mbart50", "mpnet", "nllb", "pegasus", "rembert",
    "roberta", "roformer", "splinter", "t5", "xglm", "xlmroberta", "xlnet",
)  # fmt: skip


def add_tokens(
    source: Source,
    architecture: Architecture,
    tokenizer: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
) -> None:
    """Add the tokens that `settings` and added_tokens.json have and the tokenizer lacks.

    Raises:
        ModelFormatError: An entry is not a token.
    """
    name = architecture.file("added_tokens.json")
    older = source.read_json(name) if source.has(name) else {}
    listed = dict(_numbered(source, settings, older))
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known.update(token.content for token in listed.values())
    more = []
    for token in _named(source, settings):
        if token.content not in known:
            known.add(token.content)
            more.append(token)
    tokenizer.add_tokens([*(listed[number] for number in sorted(listed)), *more])
    for number, token in listed.items():
        found = tokenizer.token_to_id(token.content)
        if token.content and found != number:
            logger.warning(
                "%s: its files number the added token %r %d, but its vocabulary leaves it %s, "
                "which is used, as in transformers.",
                source,
                token.content,
                number,
                found,
            )


def _numbered(
    source: Source, settings: Mapping[str, Any], older: Mapping[str, Any]
) -> Iterator[tuple[int, AddedToken]]:
    listed = settings.get("added_tokens_decoder")
    if listed is None:
        special = {token.content for token in _named(source, settings)}
        for content, number in older.items():
            if not isinstance(number, int):
                raise ModelFormatError(
                    f"{source}: added_tokens.json numbers {content!r} {number!r}; it must map "
                    "tokens to whole numbers."
                )
            yield (
                number,
                AddedToken(content, normalized=content not in special, special=content in special),
            )
        return
    if not isinstance(listed, Mapping):
        raise ModelFormatError(
            f"{source}: added_tokens_decoder of tokenizer_config.json must be an object of tokens "
            f"by number, not {listed!r}."
        )
    for number, token in listed.items():
        if not str(number).isdecimal() or not isinstance(token, Mapping):
            raise ModelFormatError(
                f"{source}: added_tokens_decoder of tokenizer_config.json has the entry "
                f"{number!r}: {token!r}; it must be a number and an object with 'content'."
            )
        yield int(number), _token(source, token)


def _named(source: Source, settings: Mapping[str, Any]) -> Iterator[AddedToken]:
    """The tokens with a role of their own, then the extra ones."""
    others = [n for n in settings if n.endswith("_token") and n not in SPECIAL_TOKENS]
    for name in (*SPECIAL_TOKENS, *others):
        value = settings.get(name)
        if isinstance(value, str | Mapping):
            yield _token(source, value, special=True)
    extra: Any = next((settings[name] for name in TOKEN_LISTS if settings.get(name)), [])
    if not isinstance(extra, list | Mapping):
        raise ModelFormatError(
            f"{source}: the tokenizer's extra special tokens must be a list, not {extra!r}."
        )
    named = isinstance(extra, Mapping)
    for value in extra.values() if isinstance(extra, Mapping) else extra:
        yield _token(source, value, special=named)


def _token(source: Source, value: Any, special: bool = False) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True, normalized=False)
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    fields = {k: value.get(k) for k in flags} if isinstance(value, Mapping) else {}
    given = {k: v for k, v in fields.items() if v is not None}
    content = value.get("content") if isinstance(value, Mapping) else None
    if not isinstance(content, str) or not all(isinstance(v, bool) for v in given.values()):
        raise ModelFormatError(
            f"{source}: the tokenizer's settings hold the token {value!r}; it must be a string, or "
            "an object with the string 'content' and true or false for its flags."
        )
    token = AddedToken(content, **given)
    if special and not token.special:
        token.special = True
    return token


def set_ends(
    tokenizer: tokenizers.Tokenizer,
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    kind: str,
) -> None:
    """Apply `add_bos_token` and `add_eos_token` that the model's author stored (`given`).

    Args:
        kind: The tokenizer's class, or where none is named the model's type.
    """
    if "add_bos_token" not in given and "add_eos_token" not in given:
        return
    plain = kind.lower().removesuffix("tokenizer").replace("-", "").replace("_", "")
    if plain in _OWN_ENDS:
        return
    ends = {}
    for name in ("bos_token", "eos_token"):
        value = settings.get(name)
        content = value.get("content") if isinstance(value, Mapping) else value
        number = tokenizer.token_to_id(content) if isinstance(content, str) else None
        if given.get(f"add_{name}") and number is not None:
            ends[name] = (content, number)
    first = f"{ends['bos_token'][0]}:0 " if "bos_token" in ends else ""
    last = f" {ends['eos_token'][0]}:0" if "eos_token" in ends else ""
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first}$A:0{last}",
        pair=f"{first}$A:0{last} {first}$B:0{last}".strip(),
        special_tokens=list(ends.values()),
    )
