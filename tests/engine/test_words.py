"""Ids looked up word by word are those of the whole text."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import tokenizers
from tokenizers import AddedToken, normalizers, pre_tokenizers

from core.tokenizer import words
from core.tokenizer.tokenizer import Tokenizer
from core.tokenizer.words import independent_words
from tests.engine.test_prefix import KINDS, Recorder, full_ids, minilm_tokenizer, split
from tests.engine.texts import long_texts
from tests.tiny_models import train_tokenizer

#: White space of all kinds, what cleaning drops, marks that combine, special tokens, no letters.
ODD = [
    "", " ", "   ", " a", "a ", "a  b", "\ta\nb\r\n c", "a\u00a0b\u3000c \u2028d", "\u200b \u200d",
    "[MASK] x [SEP]", "a[CLS]b [MASK", "<mask> <s>x</s>", "e\u0301te \u0301a a\u0300 \u0300",
    "İS ẞß",
    "机器 学习 🙂👍🏽 機", "한국어 テスト", "x\u0000y \u0007 z", "don't e.g. 3.14, (x)-[y] ##ing",
    "w" * 150 + " " + "a" * 99, "ΑΣ ΑΣ. ς", "\ufb01ne \u00a8x \u2126", "a" + " " * 500 + "b",
]  # fmt: skip


def word_level() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("wordpiece")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.add_tokens([AddedToken("fox", single_word=True), AddedToken("(x)", lstrip=True)])
    return tokenizer


APART: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    **{kind: KINDS[kind] for kind in ("minilm", "wordpiece", "digits")},
    "word-level": word_level,
}


def sentences() -> list[str]:
    """Short pieces of English and of what is not, and all the odd ones."""
    choose = random.Random(3)
    texts = []
    for text in long_texts(120):
        start = choose.randrange(len(text))
        texts.append(text[start : start + choose.randrange(1, 200)])
    return [*texts, *ODD, *(f"{a} {b}" for a in ODD for b in ODD[::3])]


@pytest.mark.parametrize("kind", APART)
@pytest.mark.parametrize("length", [None, 32, 7, 3, 2])
def test_ids_are_those_of_whole_texts(kind: str, length: int | None) -> None:
    texts = sentences()
    tokenizer = Tokenizer(APART[kind](), max_length=length)
    assert independent_words(tokenizer.backend)
    expected = full_ids(tokenizer, texts)
    for _ in range(2):  # of words that are new, and of those that are known
        assert split(tokenizer, texts) == expected


def test_ids_are_those_of_whole_texts_without_special_tokens() -> None:
    texts = sentences()
    backend = minilm_tokenizer()
    tokenizer = Tokenizer(backend, max_length=16, add_special_tokens=False)
    encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    assert split(tokenizer, texts) == [encoding.ids for encoding in encodings]


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "metaspace", "t5"])
def test_tokenizers_whose_words_depend_on_what_is_before_them(kind: str) -> None:
    assert not independent_words(KINDS[kind]())


def test_settings_that_words_cannot_follow() -> None:
    spaced = minilm_tokenizer()
    spaced.add_tokens([AddedToken("New York")])
    assert not independent_words(spaced)
    replacing = minilm_tokenizer()
    replacing.normalizer = normalizers.Replace("a b", "c")
    assert not independent_words(replacing)
    texts = ["I love New York in the fall", "one two three four five six"]
    tokenizer = Tokenizer(spaced, max_length=6)
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)
    left = Tokenizer(minilm_tokenizer(), max_length=6, truncation_side="left")
    assert split(left, texts) == full_ids(left, texts)


def test_a_word_is_tokenized_once() -> None:
    recorder = Recorder(minilm_tokenizer())
    tokenizer = Tokenizer(recorder, max_length=16)  # type: ignore[arg-type]
    tokenizer.encode(["one two three", "two three four"])
    assert sorted(recorder.words()) == ["four", "one", "three", "two"]
    tokenizer.encode(["four one", "three five", "one"])
    assert recorder.words()[4:] == ["five"]


def test_words_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST_WORDS", 20)
    recorder = Recorder(minilm_tokenizer())
    tokenizer = Tokenizer(recorder, max_length=16)  # type: ignore[arg-type]
    texts = [f"the {number} of {number}" for number in range(200)]
    expected = full_ids(tokenizer, texts)
    for start in range(0, 200, 5):
        some = slice(start, start + 5)
        assert split(tokenizer, texts[some]) == expected[some]
    # Those that come again and again are kept, others are not.
    assert recorder.words().count("the") == recorder.words().count("of") == 1
    before = len(recorder.words())
    tokenizer.encode(texts[:2])
    assert sorted(recorder.words()[before:]) == ["0", "1"]
    tokenizer.encode(["x" * 41, "y"])
    before = len(recorder.words())
    tokenizer.encode(["x" * 41, "y"])
    assert set(recorder.words()[before:]) == {"x" * 41}  # hardly a word


def test_threads_share_what_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST_WORDS", 100)
    tokenizer = Tokenizer(minilm_tokenizer(), max_length=32)
    texts = sentences()
    expected = full_ids(tokenizer, texts)
    orders = [random.Random(seed).sample(range(len(texts)), len(texts)) for seed in range(4)]

    def work(order: list[int]) -> bool:
        parts = [order[i : i + 20] for i in range(0, len(order), 20)]
        return all(
            split(tokenizer, [texts[i] for i in part]) == [expected[i] for i in part]
            for part in parts
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, orders))
