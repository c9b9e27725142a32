"""Token ids of texts, word by word, from those of words that came before.

Texts repeat their words, and a tokenizer computes each of them anew: some ten times the time of
looking them up. The ids of a word are what the tokenizer gives for it alone; a text's are those of
its words, cut as it would cut them, between the tokens that it puts around every text. Which
tokenizers allow that, and what a word is, says `core.tokenizer.splitting`.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import tokenizers
from numpy.typing import NDArray

from core.tokenizer.splitting import Splitting

#: Words that are kept, at most twice as many: some 150 bytes each, and no more than 500.
KEPT_WORDS = 65_536
#: Longer ones seldom come again.
_LONGEST = 40

#: Words that are tokenized as one text, and how many tokens each may have on average.
_MOST_TOGETHER, _TOKENS_OF_A_WORD = 32, 8

#: A word as good as any.
_WORD = "a"

_ID_BYTES = np.dtype(np.int32).itemsize


class KnownWords:
    """Looks up the words of texts, and tokenizes those it does not know.

    Threads share it without waiting for one another: what one of them forgets or learns twice is
    only tokenized twice.

    Args:
        splitting: What `find_splitting` found for the tokenizer.
        before, after: The ids that it puts around every text.
        window: Tokens of a text with these, after which it is cut on the right; None for no limit.
        kept_words: How many are kept, at most twice as many.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        splitting: Splitting,
        before: Sequence[int],
        after: Sequence[int],
        window: int | None,
        kept_words: int = KEPT_WORDS,
    ) -> None:
        self._kept_words = kept_words
        self._tokenizer, self._splitting = tokenizer, splitting
        self._before, self._after = _as_bytes(before), _as_bytes(after)
        around = len(before) + len(after)
        self._most = None if window is None else (window - around) * _ID_BYTES
        self._window = sys.maxsize if window is None else window
        found = _find_mark(tokenizer, splitting.between)
        self._between, self._mark = ("", -1) if found is None else found
        fitting = _MOST_TOGETHER if window is None else window // _TOKENS_OF_A_WORD
        self._together = 1 if found is None else max(min(fitting, _MOST_TOGETHER), 1)
        # A word of the older half that is asked for moves to the newer; when that is full, the
        # older one is forgotten.
        self._newer: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of texts end to end, and how many each has: int32 [ids], int64 [texts]."""
        known, split = self._newer, self._splitting.split
        # What lacks one of its words is no bytes, which join refuses.
        known_ids = cast("Callable[[str], bytes]", known.get)
        rows: list[bytes] = []
        incomplete: list[tuple[int, list[str]]] = []
        whole: list[int] = []
        for text in texts:
            words = split(text)
            if words is None:
                whole.append(len(rows))
                rows.append(b"")
                continue
            try:
                rows.append(b"".join(map(known_ids, words)))
            except TypeError:
                incomplete.append((len(rows), words))
                rows.append(b"")
        if incomplete:
            rare = self._learn(set().union(*(words for _, words in incomplete)), known)
            for place, words in incomplete:
                try:
                    rows[place] = b"".join(map(known_ids, words))
                except TypeError:
                    ids = [known.get(word, rare.get(word)) for word in words]
                    if None in ids:
                        whole.append(place)
                    else:
                        rows[place] = b"".join(cast("list[bytes]", ids))
        for place, ids_of_text in zip(whole, self._ids([texts[i] for i in whole]), strict=True):
            rows[place] = _as_bytes(ids_of_text)
        most = self._most
        if most is not None:
            rows = [row[:most] if len(row) > most else row for row in rows]
        around = len(self._before) + len(self._after)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + around
        together = (self._after + self._before).join(rows)
        end_to_end = np.frombuffer(self._before + together + self._after, dtype=np.int32)
        return end_to_end, lengths // _ID_BYTES

    def _learn(self, words: Iterable[str], known: dict[str, bytes]) -> dict[str, bytes | None]:
        """Add to what is known the ids of words that are not.

        Returns:
            Those of long words, which are not kept, and None for what is no word.
        """
        older, is_word = self._older, self._splitting.is_word
        new = [word for word in words if word not in known]
        again = {word: older[word] for word in new if word in older}
        unknown = [word for word in new if word not in again and is_word(word)]
        found = {**again, **self._tokenized(unknown)}
        known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST)
        if len(known) > self._kept_words:
            self._older, self._newer = known, {}
        return {word: found.get(word) for word in new if word not in known}

    def _tokenized(self, words: Sequence[str]) -> dict[str, bytes]:
        """The ids of each word alone. Several at a time, with the mark between them: an encoding
        costs more than a word."""
        size, mark = self._together, self._mark
        spaced = self._between.startswith(" ")

        def may_follow(word: str) -> bool:  # others begin texts, which may be a case of its own
            return size > 1 and (spaced or word.startswith(" "))

        together = list(filter(may_follow, words))
        alone = list(itertools.filterfalse(may_follow, words))
        groups = [together[i : i + size] for i in range(0, len(together), size)]
        found: dict[str, bytes] = {}
        texts = [self._between.join(group) for group in groups]
        for group, ids in zip(groups, self._ids(texts), strict=True):
            if ids.count(mark) != len(group) - 1 or len(ids) >= self._window:
                alone += group  # cut off, or a word has the mark in it
                continue
            data, start = _as_bytes(ids), 0
            for word in group[:-1]:
                stop = ids.index(mark, start)
                found[word] = data[start * _ID_BYTES : stop * _ID_BYTES]
                start = stop + 1
            found[group[-1]] = data[start * _ID_BYTES :]
        found.update(zip(alone, map(_as_bytes, self._ids(alone)), strict=True))
        return found

    def _ids(self, texts: list[str]) -> Iterator[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (encoding.ids for encoding in encodings)


def _find_mark(tokenizer: tokenizers.Tokenizer, beside: str) -> tuple[str, int] | None:
    """A special token that stands for itself between words, with what may be beside it, and its id;
    None where none leaves the words as they are."""
    second = _WORD if beside else f" {_WORD}"

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    for number, token in tokenizer.get_added_tokens_decoder().items():
        if not token.special or not token.content or token.single_word:
            continue
        between = f"{beside}{token.content}{beside}"
        if ids_of(_WORD + between + second) == [*ids_of(_WORD), number, *ids_of(second)]:
            return between, number
    return None


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
