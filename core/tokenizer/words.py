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
puts around every text.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
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
        tokenizer: One of `independent_words`, without truncation.
        before, after: The ids that it puts around every text.
        most: Tokens of a text between these, after which it is cut; None for no limit.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        before: Sequence[int],
        after: Sequence[int],
        most: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._before, self._after = _as_bytes(before), _as_bytes(after)
        self._most = None if most is None else most * _ID_BYTES
        # A word of the older half that is asked for moves to the newer; when that is full, the
        # older one is forgotten.
        self._newer: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of texts end to end, and how many each has: int32 [ids], int64 [texts]."""
        known = self._newer.get
        found: list[list[bytes | None]] = []
        incomplete: list[tuple[list[bytes | None], list[str]]] = []
        for text in texts:
            words = text.split(" ")
            ids = list(map(known, words))
            if None in ids:
                incomplete.append((ids, words))
            found.append(ids)
        if incomplete:
            self._complete(incomplete)
        rows = list(map(b"".join, cast("list[list[bytes]]", found)))
        most = self._most
        if most is not None:
            rows = [row[:most] if len(row) > most else row for row in rows]
        around = len(self._before) + len(self._after)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + around
        together = (self._after + self._before).join(rows)
        ids = np.frombuffer(self._before + together + self._after, dtype=np.int32)
        return ids, lengths // _ID_BYTES

    def _complete(self, incomplete: Sequence[tuple[list[bytes | None], list[str]]]) -> None:
        """Put in the ids of the words whose ids are None."""
        places: dict[str, list[tuple[list[bytes | None], int]]] = {}
        for ids, words in incomplete:
            place = ids.index(None)
            while True:
                places.setdefault(words[place], []).append((ids, place))
                try:
                    place = ids.index(None, place + 1)
                except ValueError:
                    break
        for word, ids_of_word in self._learn(places).items():
            for ids, place in places[word]:
                ids[place] = ids_of_word

    def _learn(self, words: Iterable[str]) -> dict[str, bytes]:
        """The ids of each word."""
        newer, older = self._newer, self._older
        found: dict[str, bytes] = {}
        unknown: list[str] = []
        for word in words:
            ids = older.get(word)
            if ids is None:
                unknown.append(word)
            else:
                found[word] = ids
        encodings = self._tokenizer.encode_batch_fast(unknown, add_special_tokens=False)
        found.update((w, _as_bytes(e.ids)) for w, e in zip(unknown, encodings, strict=True))
        if len(newer) + len(found) > _MOST_WORDS:
            self._older, self._newer = newer, {}
        self._newer.update((w, ids) for w, ids in found.items() if len(w) <= _LONGEST)
        return found


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
