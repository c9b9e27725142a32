"""Seeded texts whose number of tokens is known, and the tokenizers that give those tokens.

A bare machine has no vocabulary of a real model. The words here are made of syllables: those of the
vocabulary are one token, a word with one syllable more is two, as a rare word of English is for
BERT. Tokenizing them costs what tokenizing English costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SEED = 20_261_127
#: Tokens of a text, [CLS] and [SEP] included: lognormal with this mean and this deviation of the
#: logarithm, cut at both ends. The mean is that of MS MARCO's passages.
MEAN_TOKENS, SIGMA = 68.0, 0.45
SHORTEST, LONGEST = 5, 512

#: Of a hundred words, how many are rare, and how many end a sentence: 1.3 tokens a word in all.
_RARE, _STOPS = 0.2, 0.1
_SPECIAL = 2
_SYLLABLES = ["".join(pair) for pair in itertools.product("bcdfghjklmnprstvwz", "aeiou")]


@dataclass(frozen=True)
class Layout:
    """The special tokens of a family of models, in the order of their ids.

    Attributes:
        tokens: Of all special tokens.
        template: What stands around a text.
        roles: Their names in tokenizer_config.json.
    """

    tokens: tuple[str, ...]
    template: str
    roles: tuple[tuple[str, str], ...]


LAYOUTS = {
    "bert": Layout(
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        "[CLS] $A [SEP]",
        (("pad_token", "[PAD]"), ("unk_token", "[UNK]"), ("cls_token", "[CLS]"),
         ("sep_token", "[SEP]"), ("mask_token", "[MASK]")),
    ),
    "roberta": Layout(
        ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        "<s> $A </s>",
        (("pad_token", "<pad>"), ("unk_token", "<unk>"), ("cls_token", "<s>"),
         ("sep_token", "</s>"), ("mask_token", "<mask>")),
    ),
    "decoder": Layout(
        ("<pad>", "<unk>", "<eos>"),
        "$A <eos>",
        (("pad_token", "<pad>"), ("unk_token", "<unk>"), ("eos_token", "<eos>")),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """Words of two and three syllables, the most frequent first, as many as asked for."""

    size: int

    @cached_property
    def words(self) -> list[str]:
        random = np.random.default_rng(SEED)
        pairs = ["".join(two) for two in itertools.product(_SYLLABLES, repeat=2)]
        short = [pairs[i] for i in random.permutation(len(pairs))[: self.size // 4]]
        taken: dict[str, None] = dict.fromkeys(short)
        while len(taken) < self.size:
            first, last = random.integers(len(pairs)), random.integers(len(_SYLLABLES))
            taken[pairs[first] + _SYLLABLES[last]] = None
        return list(taken)

    @cached_property
    def long_words(self) -> list[str]:
        """Those of three syllables: with another one, they are in no vocabulary."""
        return [word for word in self.words if len(word) == 6]

    def texts(self, count: int, seed: int = SEED) -> list[str]:
        """Texts of lognormal lengths; see `lengths`. No two are alike."""
        return self.of_tokens(lengths(count, seed), seed)

    def of_tokens(self, counts: Sequence[int] | NDArray[np.int64], seed: int = SEED) -> list[str]:
        """A text of each number of tokens, special ones included, or of one less.

        Slices of one long text, each from a word of its own on.
        """
        wanted = np.asarray(counts, dtype=np.int64) - _SPECIAL
        text, characters, tokens = self._running_text(max(4 * len(wanted), 20_000), seed)
        random = np.random.default_rng(seed + 1)
        room = int(np.searchsorted(tokens, tokens[-1] - max(int(wanted.max(initial=1)), 1)))
        first = random.permutation(room)[: len(wanted)]
        last = np.searchsorted(tokens, tokens[first] + wanted, side="right") - 1
        last = np.maximum(last, first + 1)
        ends = characters[last] - 1
        return [text[a:b] for a, b in zip(characters[first], ends, strict=True)]

    def _running_text(
        self, units: int, seed: int
    ) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
        """The text, and the character and the token at which each word begins; and the end."""
        random = np.random.default_rng(seed)
        shares = 1 / (np.arange(len(self.words)) + 10.0)  # Zipf's law, without its first ranks
        drawn = np.searchsorted(np.cumsum(shares) / shares.sum(), random.random(units))
        kind = random.random(units)
        long, syllables = self.long_words, random.integers(len(_SYLLABLES), size=units)
        words = []
        for place, chance, syllable in zip(drawn, kind, syllables, strict=True):
            word = self.words[min(place, len(self.words) - 1)]
            if chance < _RARE:
                word = long[place % len(long)] + _SYLLABLES[syllable]
            elif chance < _RARE + _STOPS:
                word += "."
            words.append(word)
        sizes = np.where(kind < _RARE + _STOPS, 2, 1)
        characters = np.cumsum([0, *(len(word) + 1 for word in words)], dtype=np.int64)
        return " ".join(words), characters, np.concatenate([[0], np.cumsum(sizes)])

    def wordpiece(self, layout: Layout) -> Tokenizer:
        """BERT's kind of tokenizer."""
        letters = "abcdefghijklmnopqrstuvwxyz."
        pieces = [*layout.tokens, *letters, *(f"##{letter}" for letter in letters)]
        pieces += [f"##{syllable}" for syllable in _SYLLABLES] + self.words
        ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
        unknown = dict(layout.roles)["unk_token"]
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return _finished(tokenizer, layout)

    def unigram(self, layout: Layout) -> Tokenizer:
        """XLM-RoBERTa's kind of tokenizer."""
        pieces = [(token, 0.0) for token in layout.tokens]
        pieces += [(f"▁{word}", -math.log(n + 10.0)) for n, word in enumerate(self.words)]
        pieces += [(syllable, -14.0) for syllable in _SYLLABLES]
        pieces += [(letter, -18.0) for letter in "▁abcdefghijklmnopqrstuvwxyz."]
        unknown = layout.tokens.index(dict(layout.roles)["unk_token"])
        tokenizer = Tokenizer(models.Unigram(pieces, unknown, False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        return _finished(tokenizer, layout)


def _finished(tokenizer: Tokenizer, layout: Layout) -> Tokenizer:
    tokenizer.add_special_tokens(list(layout.tokens))
    around = [word for word in layout.template.split() if word != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=layout.template,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(around)],
    )
    return tokenizer


def lengths(count: int, seed: int = SEED) -> NDArray[np.int64]:
    """Tokens of each of `count` texts: lognormal, as MEAN_TOKENS and SIGMA say."""
    center = math.log(MEAN_TOKENS) - SIGMA**2 / 2
    drawn = np.random.default_rng(seed).lognormal(center, SIGMA, count)
    return np.clip(np.rint(drawn), SHORTEST, LONGEST).astype(np.int64)
