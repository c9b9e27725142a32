"""Token ids of texts, word by word, from those of words that came before.

Texts repeat their words, and a tokenizer computes each of them anew: some ten times the time of
looking them up. What lies between two spaces may be looked up where no stage of the tokenizer sees
past a space:

* Normalizers: of one character, or of one combining sequence, which a space ends (Unicode's normal
  forms, accents, lower case, BERT's cleaning).
* Added tokens: those without white space in them. What they swallow beside them is white space,
  which gives no token.
* Pre-tokenizers that drop white space: BERT's and their like.
* Models see one piece at a time, and a piece holds no space.

`independent_words` tells which tokenizers are such. The ids of a word are what the tokenizer gives
for it alone; a text's are those of its words, cut as it would cut them, between the tokens that it
puts around every text. Line feeds and tabs count as spaces, which they are to all these stages.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import tokenizers
from numpy.typing import NDArray

from core.tokenizer.prefix import is_deterministic, state, steps

_LOCAL_NORMALIZERS = (
    None, "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents",
)  # fmt: skip
_DROP_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_NARROWING = ("Digits", "Punctuation")

#: Words that are kept, at most twice as many: some 200 bytes each.
_MOST_WORDS = 100_000
#: Longer ones seldom come again.
_LONGEST = 40

#: Words that are tokenized as one text, and how many tokens each may have on average.
_MOST_TOGETHER, _TOKENS_OF_A_WORD = 32, 8

#: A word as good as any.
_WORD = "a"

_ID_BYTES = np.dtype(np.int32).itemsize


def independent_words(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether each word's ids are the same in every text."""
    if not is_deterministic(tokenizer.model):
        return False
    normalizers = steps(state(tokenizer.normalizer), "normalizers")
    if any(step.get("type") not in _LOCAL_NORMALIZERS for step in normalizers):
        return False
    kinds = [step.get("type") for step in steps(state(tokenizer.pre_tokenizer), "pretokenizers")]
    if not kinds or kinds[0] not in _DROP_SPACES:
        return False
    if any(kind not in (*_DROP_SPACES, *_NARROWING) for kind in kinds):
        return False
    added = tokenizer.get_added_tokens_decoder().values()
    return not any(re.search(r"\s", token.content) for token in added)


class KnownWords:
    """Looks up the words of texts, and tokenizes those it does not know.

    Threads share it without waiting for one another: what one of them forgets or learns twice is
    only tokenized twice.

    Args:
        tokenizer: One of `independent_words`.
        before, after: The ids that it puts around every text.
        window: Tokens of a text with these, after which it is cut on the right; None for no limit.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        before: Sequence[int],
        after: Sequence[int],
        window: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._before, self._after = _as_bytes(before), _as_bytes(after)
        around = len(before) + len(after)
        self._most = None if window is None else (window - around) * _ID_BYTES
        self._window = sys.maxsize if window is None else window
        found = _find_mark(tokenizer)
        self._between, self._mark = ("", -1) if found is None else (f" {found[0]} ", found[1])
        fitting = _MOST_TOGETHER if window is None else window // _TOKENS_OF_A_WORD
        self._together = 1 if found is None else max(min(fitting, _MOST_TOGETHER), 1)
        # A word of the older half that is asked for moves to the newer; when that is full, the
        # older one is forgotten.
        self._newer: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of texts end to end, and how many each has: int32 [ids], int64 [texts]."""
        known = self._newer
        rows: list[bytes] = []
        incomplete: list[tuple[int, list[str]]] = []
        for text in texts:
            words = text.replace("\n", " ").replace("\t", " ").split(" ")
            ids = list(map(known.get, words))
            if None in ids:
                incomplete.append((len(rows), words))
                rows.append(b"")
            else:
                rows.append(b"".join(cast("list[bytes]", ids)))
        if incomplete:
            rare = self._learn(set().union(*(words for _, words in incomplete)), known)
            for place, words in incomplete:
                ids = list(map(known.get, words))
                if None in ids:
                    ids = [
                        rare[w] if ids_of_w is None else ids_of_w
                        for w, ids_of_w in zip(words, ids, strict=True)
                    ]
                rows[place] = b"".join(cast("list[bytes]", ids))
        most = self._most
        if most is not None:
            rows = [row[:most] if len(row) > most else row for row in rows]
        around = len(self._before) + len(self._after)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + around
        together = (self._after + self._before).join(rows)
        end_to_end = np.frombuffer(self._before + together + self._after, dtype=np.int32)
        return end_to_end, lengths // _ID_BYTES

    def _learn(self, words: Iterable[str], known: dict[str, bytes]) -> dict[str, bytes]:
        """Add to what is known the ids of words that are not; those of long words are returned."""
        older = self._older
        new = [word for word in words if word not in known]
        unknown = [word for word in new if word not in older]
        found = dict(zip(unknown, self._tokenized(unknown), strict=True))
        for word in new:
            if word not in found:
                found[word] = older[word]
        known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST)
        if len(known) > _MOST_WORDS:
            self._older, self._newer = known, {}
        return {word: ids for word, ids in found.items() if len(word) > _LONGEST}

    def _tokenized(self, words: Sequence[str]) -> list[bytes]:
        """The ids of each word alone. Several at a time, with the mark between them: an encoding
        costs more than a word."""
        size, mark = self._together, self._mark
        groups = [words[i : i + size] for i in range(0, len(words), size)]
        found: list[bytes] = []
        again: list[int] = []
        for group, ids in zip(
            groups, self._ids([self._between.join(g) for g in groups]), strict=True
        ):
            whole = size == 1 or (ids.count(mark) == len(group) - 1 and len(ids) < self._window)
            if not whole:  # cut off, or a word has the mark in it
                again += range(len(found), len(found) + len(group))
                found += [b""] * len(group)
                continue
            data, start = _as_bytes(ids), 0
            for _ in group[1:]:
                stop = ids.index(mark, start)
                found.append(data[start * _ID_BYTES : stop * _ID_BYTES])
                start = stop + 1
            found.append(data[start * _ID_BYTES :])
        for place, ids in zip(again, self._ids([words[i] for i in again]), strict=True):
            found[place] = _as_bytes(ids)
        return found

    def _ids(self, texts: list[str]) -> Iterator[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (encoding.ids for encoding in encodings)


def _find_mark(tokenizer: tokenizers.Tokenizer) -> tuple[str, int] | None:
    """A special token that stands for itself between words, and its id; None without one."""
    for number, token in tokenizer.get_added_tokens_decoder().items():
        if not token.special or token.single_word or not token.content:
            continue
        ids = tokenizer.encode(f"{_WORD} {token.content} {_WORD}", add_special_tokens=False).ids
        if ids.count(number) == 1 and number not in (ids[0], ids[-1]):
            return token.content, number
    return None


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
