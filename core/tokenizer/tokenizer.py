"""Texts to token ids, with one immutable `tokenizers.Tokenizer`.

Padding and truncation of tokenizer.json are overridden once, at load, and nothing is changed
afterwards: that is what lets many threads encode at once. Padding is not the tokenizer's work at
all: rows are padded when batches are cut.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import tokenizers
import tokenizers.normalizers
from numpy.typing import NDArray

from core.errors import ModelFormatError
from core.machine.forks import note_tokenizer_threads
from core.tokenizer.prefix import safe_cut
from core.tokenizer.splitting import find_splitting
from core.tokenizer.words import KEPT_WORDS, KnownWords

#: A text, or a pair of texts.
Text = str | tuple[str, str]

# Encodings carry strings and masks, many times a text's size; a bounded number lives at once.
_CHUNK_TEXTS = 1_024

_CHUNK_CHARACTERS = 500_000

#: What around it is not its own.
_WORD = "a"

# Of a long text, this many characters per token are tokenized first; English has 4 to 5.
_CHARACTERS_PER_TOKEN = 6


T = TypeVar("T", bound=Text)


def characters(text: Text) -> int:
    """The length of a text, or of both texts of a pair."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of many texts, end to end.

    Attributes:
        ids: int32 [sum of lengths].
        lengths: int64 [texts].
        type_ids: int32 [sum of lengths], which text of a pair each token is of; None for zeros.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    type_ids: NDArray[np.int32] | None = None

    def reorder(self, order: NDArray[np.int64]) -> TokenizedTexts:
        """The same texts in another order."""
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        # Position inside its text, plus where that text starts.
        source = np.arange(total) - np.repeat(ends - lengths, lengths)
        source += np.repeat(starts[order], lengths)
        types = None if self.type_ids is None else self.type_ids[source]
        return TokenizedTexts(self.ids[source], lengths, types)


class Tokenizer:
    """Tokenizes with truncation to `max_length` tokens, special tokens included.

    Attributes:
        max_length: In tokens, or None for no limit.
        pad_id: The padding token's id.
        padding_side: "right" or "left".
        special_ids: Ids of the tokens that begin and end a text, pad it, or stand for what is
            unknown, as the model's files name them.

    Args:
        types_pairs: Whether the model tells the texts of a pair apart by token types.
        endings: Texts that end alike: the tokens of that end stay when a text is cut. None where
            cutting takes away what comes last.
        split_special_tokens: Whether a special token's name in a text is text like any other.
        kept_words: How many are kept as they were tokenized, at most twice as many.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        max_length: int | None = None,
        pad_id: int = 0,
        padding_side: str = "right",
        truncation_side: str = "right",
        add_special_tokens: bool = True,
        types_pairs: bool = False,
        endings: Sequence[str] | None = None,
        special_ids: Sequence[int] = (),
        split_special_tokens: bool = False,
        kept_words: int = KEPT_WORDS,
    ) -> None:
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = split_special_tokens  # tokenizer.json does not keep it
        self._window = 0
        if max_length is None:
            tokenizer.no_truncation()
        else:
            reserved = tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0
            self._window = max(max_length, reserved)
            tokenizer.enable_truncation(self._window, direction=truncation_side)
        self._tokenizer = tokenizer
        self._special = add_special_tokens
        self._types_pairs = types_pairs
        self._endings = endings
        self._truncation_side = truncation_side
        self._kept_words = kept_words
        self.max_length = max_length
        self.pad_id = pad_id
        self.padding_side = padding_side
        self.special_ids = tuple(special_ids)

    def with_max_length(self, max_length: int | None) -> Tokenizer:
        """A copy that truncates elsewhere; this one stays as it is."""
        return _read(self._tokenizer.to_str(), {**self._settings, "max_length": max_length})

    def with_kept_words(self, kept_words: int) -> Tokenizer:
        """A copy that keeps so many words as they were tokenized, at most twice as many."""
        return _read(self._tokenizer.to_str(), {**self._settings, "kept_words": kept_words})

    def __reduce__(self) -> Any:
        return _read, (self._tokenizer.to_str(), self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        """The keyword arguments it was made with."""
        return {
            "max_length": self.max_length,
            "pad_id": self.pad_id,
            "padding_side": self.padding_side,
            "truncation_side": self._truncation_side,
            "add_special_tokens": self._special,
            "types_pairs": self._types_pairs,
            "endings": self._endings,
            "special_ids": self.special_ids,
            "split_special_tokens": self._tokenizer.encode_special_tokens,
            "kept_words": self._kept_words,
        }

    def encode(self, texts: Sequence[Text]) -> TokenizedTexts:
        """Token ids of `texts`, or of pairs of texts, in their order.

        Of a pair with too many tokens, the longer text is cut first.

        Of texts far longer than `max_length` only a prefix is tokenized, where that provably
        gives the same ids (core/prefix.py).
        """
        if texts and isinstance(texts[0], tuple):
            return self._encode_pairs(texts)
        return self._encode_texts(cast("Sequence[str]", texts))

    def _encode_texts(self, texts: Sequence[str]) -> TokenizedTexts:
        if len(texts) == 1:  # a query: no time to lose on counting
            (row,) = self._rows(texts)
            return TokenizedTexts(np.array(row, np.int32), np.array([len(row)], np.int64))
        encode = self._end_to_end if self._words is None else self._by_words
        chunks = [encode(chunk) for chunk in self._chunks(texts)]
        if not chunks:
            return TokenizedTexts(np.empty(0, np.int32), np.empty(0, np.int64))
        ids, lengths = map(np.concatenate, zip(*chunks, strict=True))
        return TokenizedTexts(ids, lengths)

    def _end_to_end(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of the texts, and how many each has."""
        rows = self._rows(texts)
        ids = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32)
        return ids, np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))

    def _by_words(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The same by looking words up."""
        assert self._words is not None
        prefixes = texts
        if self._cut is not None:
            size = self._prefix_length
            prefixes = [self._prefix(text, size) for text in texts]
        note_tokenizer_threads()
        with explained():
            ids, lengths = self._words.encode(prefixes)
        short = zip(texts, prefixes, lengths.tolist(), strict=True)
        open_ends = [
            i
            for i, (text, prefix, length) in enumerate(short)
            if length < self._window and len(prefix) < len(text)
        ]
        if open_ends:
            rows = np.split(ids, np.cumsum(lengths)[:-1])
            for i, row in zip(open_ends, self._rows([texts[i] for i in open_ends]), strict=True):
                rows[i] = np.asarray(row, dtype=np.int32)
            ids = np.concatenate(rows)
            lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return ids, lengths

    @cached_property
    def _words(self) -> KnownWords | None:
        """None for a tokenizer whose words cannot be looked up one by one."""
        if self._truncation_side != "right" or self._endings is not None:
            return None
        try:
            with explained():
                return self._known_words()
        except Exception:  # of a vocabulary that lacks a sample's letters
            return None

    def _known_words(self) -> KnownWords | None:
        splitting = find_splitting(self._tokenizer)
        if splitting is None:
            return None
        # A single text starts no threads, so that processes may still be forked.
        word = self._tokenizer.encode(_WORD, add_special_tokens=False).ids
        whole = self._tokenizer.encode(_WORD, add_special_tokens=self._special).ids
        start = next((i for i in range(len(whole)) if whole[i : i + len(word)] == word), None)
        if not word or start is None:
            return None
        before, after = whole[:start], whole[start + len(word) :]
        return KnownWords(
            self._tokenizer, splitting, before, after, self._window or None, self._kept_words
        )

    def _encode_pairs(self, pairs: Sequence[Text]) -> TokenizedTexts:
        ids: list[NDArray[np.int32]] = []
        types: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for chunk in self._chunks(pairs, whole=True):
            encodings = self._tokenize_pairs(chunk)
            lengths += map(len, encodings)
            rows = itertools.chain.from_iterable(e.ids for e in encodings)
            ids.append(np.fromiter(rows, dtype=np.int32))
            if self._types_pairs:
                rows = itertools.chain.from_iterable(e.type_ids for e in encodings)
                types.append(np.fromiter(rows, dtype=np.int32))
        return TokenizedTexts(
            np.concatenate(ids),
            np.asarray(lengths, dtype=np.int64),
            np.concatenate(types) if types else None,
        )

    def _tokenize_pairs(self, pairs: Sequence[Text]) -> list[tokenizers.Encoding]:
        note_tokenizer_threads()
        with explained():
            return self._for_pairs.encode_batch_fast(list(pairs), add_special_tokens=self._special)

    @cached_property
    def _for_pairs(self) -> tokenizers.Tokenizer:
        """The tokenizer, or a copy with room for what goes around a pair."""
        around = self._tokenizer.num_special_tokens_to_add(True) if self._special else 0
        if not self._window or around <= self._window:
            return self._tokenizer
        copy = self._copy()
        copy.enable_truncation(around, direction=self._truncation_side)
        return copy

    def count(self, texts: Sequence[Text]) -> NDArray[np.int64]:
        """How many tokens each text or pair has before it is cut, special ones included: int64
        [texts]."""
        lengths: list[int] = []
        for chunk in self._chunks(texts, whole=True):
            note_tokenizer_threads()
            with explained():
                encodings = self._uncut.encode_batch_fast(
                    list(chunk), add_special_tokens=self._special
                )
            lengths += map(len, encodings)
        return np.asarray(lengths, dtype=np.int64)

    def find_cut(self, texts: Sequence[Text]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the texts that `encode` cuts, and how many tokens each of them has."""
        nothing = np.empty(0, dtype=np.int64)
        if not self._window or not texts:
            return nothing, nothing
        # Only a text that fills the window may have more; only those are tokenized to their end.
        (full,) = np.nonzero(self.encode(texts).lengths >= self._window)
        counts = self.count([texts[i] for i in full.tolist()])
        cut = counts > self._window
        return full[cut], counts[cut]

    @cached_property
    def _uncut(self) -> tokenizers.Tokenizer:
        """A copy without truncation: the one in use never changes."""
        copy = self._copy()
        copy.no_truncation()
        return copy

    def _copy(self) -> tokenizers.Tokenizer:
        copy = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        copy.encode_special_tokens = self._tokenizer.encode_special_tokens
        return copy

    def _chunks(self, texts: Sequence[T], whole: bool = False) -> Iterator[Sequence[T]]:
        sizes = np.fromiter(map(characters, texts), dtype=np.int64, count=len(texts))
        if self._window and not whole:
            np.minimum(sizes, 2 * self._prefix_length, out=sizes)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(texts):
            full = int(ends[start] - sizes[start]) + _CHUNK_CHARACTERS
            stop = int(np.searchsorted(ends, full, side="right"))
            stop = min(max(stop, start + 1), start + _CHUNK_TEXTS)
            yield texts[start:stop]
            start = stop

    @property
    def _prefix_length(self) -> int:
        return max(self._window * _CHARACTERS_PER_TOKEN, 64)

    @cached_property
    def _cut(self) -> re.Pattern[str] | None:
        right = self._window and self._truncation_side == "right"
        return safe_cut(self._tokenizer) if right else None

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, from a prefix of the long ones as far as that fills the window."""
        size = self._prefix_length
        # Cutting pays when much is cut off.
        longest = max(map(len, texts))
        if not self._window or longest < 2 * size or self._cut is None:
            return self._tokenize(texts)
        prefixes = [self._prefix(text, size) for text in texts]
        rows = self._tokenize(prefixes)
        open_ends = list(range(len(texts)))
        while True:
            open_ends = [
                i
                for i in open_ends
                if len(rows[i]) < self._window and len(prefixes[i]) < len(texts[i])
            ]
            if not open_ends:
                return rows
            size *= 4
            for i in open_ends:
                prefixes[i] = self._prefix(texts[i], size)
            longer = self._tokenize([prefixes[i] for i in open_ends])
            for i, row in zip(open_ends, longer, strict=True):
                rows[i] = row

    def _prefix(self, text: str, size: int) -> str:
        if len(text) < 2 * size or self._cut is None:
            return text
        # The lookahead sees nothing past the end of the range, so do not cut there.
        match = self._cut.search(text, size, 2 * size)
        return text[: match.start()] if match else text

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        note_tokenizer_threads()
        with explained():
            encodings = self._tokenizer.encode_batch_fast(
                list(texts), add_special_tokens=self._special
            )
        rows = [encoding.ids for encoding in encodings]
        if self._endings is not None and self._window:
            end = self._kept_end
            if not end:
                return rows
            return [[*row[: -len(end)], *end] if len(row) >= self._window else row for row in rows]
        return rows

    @cached_property
    def _kept_end(self) -> list[int]:
        """The tokens that the texts in `endings` end with, as many as fit."""
        first, second = (
            self._uncut.encode(text, add_special_tokens=self._special).ids
            for text in self._endings or ("", "")
        )
        count = 0
        for left, right in zip(reversed(first), reversed(second), strict=False):
            if left != right:
                break
            count += 1
        return list(first[-min(count, self._window) :]) if count else []

    @cached_property
    def around(self) -> list[int]:
        """The ids it puts around every text: those of the empty one."""
        # A single text starts no threads, so that processes may still be forked.
        with explained():
            return list(self._tokenizer.encode("", add_special_tokens=self._special).ids)

    def prompt_length(self, prompt: str) -> int:
        """How many leading tokens of a text belong to the prompt in front of it.

        The prompt is tokenized alone; a closing special token is not counted.
        """
        if not prompt:
            return 0
        with explained():
            encoding = self._tokenizer.encode(prompt, add_special_tokens=self._special)
        closing = bool(encoding.special_tokens_mask) and encoding.special_tokens_mask[-1] == 1
        return len(encoding.ids) - int(closing)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The underlying tokenizer. Do not change it: other threads use it."""
        return self._tokenizer


def _read(text: str, settings: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from the text of its tokenizer.json."""
    return Tokenizer(tokenizers.Tokenizer.from_str(text), **settings)


@contextmanager
def explained(what: str = "The model's tokenizer") -> Iterator[None]:
    """Name what is broken: tokenizers raises plain exceptions for what a vocabulary lacks, and
    panics where its regular expressions find no end."""
    try:
        yield
    except BaseException as error:  # a panic in Rust is no Exception
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ModelFormatError(
            f"{what} cannot encode a text: {str(error).rstrip('.')}. Restore or download the "
            "tokenizer's files again."
        ) from error
