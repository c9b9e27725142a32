"""Ids looked up word by word are those of the whole text."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

import core
from core.tokenizer.splitting import find_splitting
from core.tokenizer.tokenizer import Tokenizer
from tests.engine.test_prefix import KINDS, Recorder, full_ids, minilm_tokenizer, split
from tests.engine.texts import long_texts
from tests.tiny_models import train_tokenizer

#: White space of all kinds, what cleaning drops, marks that combine, special tokens, no letters.
ODD = [
    "", " ", "   ", " a", "a ", "a  b", "\ta\nb\r\n c", "a\u00a0b\u3000c \u2028d", "\u200b \u200d",
    "[MASK] x [SEP]", "a[CLS]b [MASK", "<mask> <s>x</s>", "e\u0301te \u0301a a\u0300 \u0300",
    "İS ẞß",
    "机器 学习 🙂👍🏽 機", "한국어 テスト", "x\u0000y \u0007 z", "don't e.g. 3.14, (x)-[y] ##ing",
    "x [new] the fox is FOX quick", "a\u200b b", "국\ufeff ß", "ax \u0301b",
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


def metaspace_at_the_start_only() -> tokenizers.Tokenizer:
    tokenizer = train_tokenizer("unigram-xlmr")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    own = [AddedToken("fox"), AddedToken("  ", normalized=False), AddedToken("x)", normalized=True)]
    tokenizer.add_tokens(own)
    return tokenizer


def metaspace_in_lower_case() -> tokenizers.Tokenizer:
    """Texts are searched for what normalizing makes of an added token."""
    tokenizer = train_tokenizer("unigram-xlmr")
    steps = [normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.add_tokens([AddedToken("[NEW]"), AddedToken("FOX", rstrip=True)])
    return tokenizer


def metaspace_stripped_last() -> tokenizers.Tokenizer:
    """White space that a step makes is stripped at a text's end, and nowhere else."""
    tokenizer = train_tokenizer("unigram-xlmr")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.Strip(left=False)])
    return tokenizer


APART: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    **KINDS,
    "word-level": word_level,
    "metaspace-first": metaspace_at_the_start_only,
    "metaspace-lower": metaspace_in_lower_case,
    "metaspace-stripped": metaspace_stripped_last,
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
    assert find_splitting(tokenizer.backend) is not None
    expected = full_ids(tokenizer, texts)
    for _ in range(2):  # of words that are new, and of those that are known
        assert split(tokenizer, texts) == expected


def test_ids_are_those_of_whole_texts_without_special_tokens() -> None:
    texts = sentences()
    backend = minilm_tokenizer()
    tokenizer = Tokenizer(backend, max_length=16, add_special_tokens=False)
    encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    assert split(tokenizer, texts) == [encoding.ids for encoding in encodings]


def test_settings_that_words_cannot_follow() -> None:
    spaced = minilm_tokenizer()
    spaced.add_tokens([AddedToken("New York")])
    replacing = minilm_tokenizer()
    replacing.normalizer = normalizers.Replace("a b", "c")
    dropping = KINDS["gpt2"]()
    dropping.model.dropout = 0.5
    whole = train_tokenizer("bytelevel-roberta")
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    prepending = KINDS["metaspace"]()
    prepending.normalizer = normalizers.Prepend("x")
    stripping = metaspace_at_the_start_only()
    stripping.normalizer = normalizers.Strip()  # also the space that a word begins with
    for normalizer, content in ((normalizers.NFKC(), "ﷺ"), (normalizers.NFKC(), "x\u00b4")):
        for kind in ("wordpiece", "metaspace"):  # normalized, these hold a space
            spread = KINDS[kind]()
            spread.normalizer = normalizer
            spread.add_tokens([content])
            assert find_splitting(spread) is None
    for backend in (spaced, replacing, dropping, whole, prepending, stripping):
        assert find_splitting(backend) is None
    texts = ["I love New York in the fall", "one two three four five six"]
    tokenizer = Tokenizer(spaced, max_length=6)
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)
    left = Tokenizer(minilm_tokenizer(), max_length=6, truncation_side="left")
    assert split(left, texts) == full_ids(left, texts)


def test_tokenizers_that_lack_letters_tokenize_as_before() -> None:
    few = tokenizers.Tokenizer(models.WordLevel({"x": 0}, unk_token="[UNK]"))
    few.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(few)
    assert split(tokenizer, ["x x", "x"]) == [[0, 0], [0]]
    with pytest.raises(core.ModelFormatError, match="cannot encode a text"):
        tokenizer.encode(["x", "q"])


def test_an_expression_without_end_is_an_error_of_the_model() -> None:
    """tokenizers panics there, and a panic is no `Exception`."""
    endless = minilm_tokenizer()
    endless.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("(a+)+$"), "isolated")
    tokenizer, text = Tokenizer(endless, max_length=16), "a" * 40 + "b"
    calls: list[Callable[[], object]] = [
        lambda: tokenizer.encode([text]),
        lambda: tokenizer.encode(["x", text]),
        lambda: tokenizer.encode([("x", text)]),
        lambda: tokenizer.count([text]),
        lambda: tokenizer.prompt_length(text),
    ]
    for call in calls:
        with pytest.raises(core.ModelFormatError, match=r"cannot encode a text: .*retry-limit"):
            call()
    assert len(tokenizer.encode(["x"]).ids) == 3


def test_parts_written_in_python_tokenize_as_before() -> None:
    class Upper:
        def normalize(self, normalized: tokenizers.NormalizedString) -> None:
            normalized.lowercase()

    backend = minilm_tokenizer()
    backend.normalizer = normalizers.Normalizer.custom(Upper())
    tokenizer = Tokenizer(backend, max_length=8)
    texts = ["A Fox", "the fox " * 50]
    assert split(tokenizer, texts) == full_ids(tokenizer, texts)


def test_a_word_is_tokenized_once() -> None:
    recorder = Recorder(minilm_tokenizer())
    tokenizer = Tokenizer(recorder, max_length=16)  # type: ignore[arg-type]
    tokenizer.encode(["one two three", "two three four"])
    assert sorted(recorder.words()) == ["four", "one", "three", "two"]
    tokenizer.encode(["four one", "three five", "one"])
    assert recorder.words()[4:] == ["five"]


def test_words_are_forgotten_when_there_are_many() -> None:
    recorder = Recorder(minilm_tokenizer())
    tokenizer = Tokenizer(recorder, max_length=16, kept_words=20)  # type: ignore[arg-type]
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


def test_a_copy_keeps_more_words() -> None:
    tokenizer = Tokenizer(minilm_tokenizer(), max_length=16, kept_words=20)
    copy = pickle.loads(pickle.dumps(tokenizer.with_kept_words(1_000)))
    texts = [f"the {number} of {number}" for number in range(200)]
    for one, forgets in ((tokenizer, True), (copy, False)):
        for start in (0, 100):
            one.encode(texts[start : start + 100])
        recorder = one._words._tokenizer = Recorder(one._tokenizer)  # type: ignore[union-attr]
        assert split(one, texts) == full_ids(tokenizer, texts)
        assert bool(recorder.words()) is forgets


def test_threads_share_what_they_know() -> None:
    tokenizer = Tokenizer(minilm_tokenizer(), max_length=32, kept_words=100)
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
