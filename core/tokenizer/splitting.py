"""Where a text comes apart into words whose token ids do not depend on one another.

Two kinds of tokenizer have such words, between single spaces:

* **Those that drop white space** (BERT's pre-tokenizer and its like). Normalizers change one
  character or one combining sequence at a time, which a space ends; added tokens hold no white
  space, and what they swallow beside them gives no token; models see one piece, which holds no
  space. Line feeds and tabs count as spaces there.
* **Those whose words begin with their space** (Metaspace, and the byte-level patterns of GPT-2,
  Llama 3 and Qwen). A single space that no other white space is beside goes to what follows it,
  and nothing before it is looked at. Such a word is anything that keeps a character at both of its
  ends that is no white space, also when normalized, and has no added token in it: what stands
  around these is treated in ways of its own. Texts with anything else are tokenized whole.

core/tokenizer/prefix.py says what the stages do with a space between two letters; this asks more of
them, since anything may stand on either side here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tokenizers

from core.tokenizer.prefix import (
    is_deterministic,
    normalizes_locally,
    splits_at_space,
    state,
    steps,
)

_LOCAL_NORMALIZERS = (
    None, "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents",
)  # fmt: skip
_DROP_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_NARROWING = ("Digits", "Punctuation")

#: A letter, a digit, and no letter.
_SAMPLE = "a b 1 . c"

#: Added tokens that are looked for in each new word.
_MOST_ADDED = 256


@dataclass(frozen=True)
class Splitting:
    """How texts come apart.

    Attributes:
        split: A text's words, or None for one that must be tokenized whole.
        is_word: Whether the ids of what `split` gave may be looked up; else its texts are whole.
        between: What may stand on both sides of a special token between words.
    """

    split: Callable[[str], list[str] | None]
    is_word: Callable[[str], bool]
    between: str


def find_splitting(tokenizer: tokenizers.Tokenizer) -> Splitting | None:
    """How texts come apart for this tokenizer; None if its words may depend on one another."""
    found = _by_components(tokenizer)
    return found if found is not None and _comes_apart(tokenizer, found) else None


def _comes_apart(tokenizer: tokenizers.Tokenizer, splitting: Splitting) -> bool:
    """Whether a text is the sum of its words, as the components say: their order may count, too."""

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    whole = ids_of(_SAMPLE)  # cut where the tokenizer cuts
    words = splitting.split(_SAMPLE) or []
    return whole == [number for word in words for number in ids_of(word)][: len(whole)]


def _by_components(tokenizer: tokenizers.Tokenizer) -> Splitting | None:
    if not is_deterministic(tokenizer.model):
        return None
    normalizer, splitter = state(tokenizer.normalizer), state(tokenizer.pre_tokenizer)
    added = list(_searched(tokenizer))
    kinds = [step.get("type") for step in steps(splitter, "pretokenizers")]
    if (
        all(s.get("type") in _LOCAL_NORMALIZERS for s in steps(normalizer, "normalizers"))
        and kinds
        and kinds[0] in _DROP_SPACES
        and all(kind in (*_DROP_SPACES, *_NARROWING) for kind in kinds)
    ):
        spaced = any(re.search(r"\s", content) for content in added)
        return None if spaced else Splitting(_split_at_spaces, lambda word: True, " ")
    if (
        len(added) > _MOST_ADDED
        # Of spaces alone there may be some, of two and more.
        or any(re.search(r"\s", content) and content.strip(" ") for content in added)
        or " " in added
        or not normalizes_locally(normalizer)
        or any(s.get("type") == "Prepend" for s in steps(normalizer, "normalizers"))
        or not splits_at_space(splitter)
        or any(kind in _NARROWING for kind in kinds)
    ):
        return None
    return Splitting(_split_before_spaces, _words_of(tokenizer.normalizer, added), "")


def _searched(tokenizer: tokenizers.Tokenizer) -> Iterator[str]:
    """What is searched for in texts: added tokens as they are, and as they are normalized."""
    normalizer = tokenizer.normalizer
    for token in tokenizer.get_added_tokens_decoder().values():
        yield token.content
        if token.normalized and normalizer is not None:
            yield normalizer.normalize_str(token.content)


def _split_at_spaces(text: str) -> list[str]:
    return text.replace("\n", " ").replace("\t", " ").split(" ")


def _split_before_spaces(text: str) -> list[str] | None:
    if "  " in text or "\0" in text or not text or text[0] == " " or text[-1] == " ":
        return None
    return text.replace(" ", "\0 ").split("\0")


def _words_of(normalizer: Any, added: list[str]) -> Callable[[str], bool]:
    """Tells whether a piece, with the space before it, is a word."""
    contents = [content for content in added if content.strip(" ")]
    special = re.compile("|".join(map(re.escape, contents))) if contents else None

    def keeps_its_ends(word: str) -> bool:
        return bool(word) and not (word[0].isspace() or word[-1].isspace() or "▁" in word)

    def is_word(piece: str) -> bool:
        word = piece.removeprefix(" ")
        # Between letters: at the ends of a text white space may be stripped, inside it is not.
        within = f"a{word}a" if normalizer is None else normalizer.normalize_str(f"a{word}a")
        if within[:1] != "a" or within[-1:] != "a":
            return False
        normalized = within[1:-1]
        if not keeps_its_ends(word) or not keeps_its_ends(normalized):
            return False
        return special is None or not (special.search(word) or special.search(normalized))

    return is_word
