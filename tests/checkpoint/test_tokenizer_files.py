"""What other files say of the tokenizer goes before tokenizer.json, as in the reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core.checkpoint.resolve import resolve
from core.tokenizer.reading import read_tokenizer
from core.tokenizer.tokenizer import Tokenizer
from tests.checkpoint.dialects import read, write


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of bert-mean, whose tokenizer.json lower-cases."""
    return Path(shutil.copytree(tiny_model("bert-mean"), tmp_path / "model"))


def tokenizer_of(folder: Path) -> Tokenizer:
    source = resolve(folder)
    return read_tokenizer(source, source.architecture)


def ids(folder: Path, text: str) -> list[int]:
    found: list[int] = tokenizer_of(folder).encode([text]).ids.tolist()
    return found


def set_normalizer(folder: Path, **settings: object) -> None:
    content = read(folder, "tokenizer.json")
    config = read(folder, "tokenizer_config.json")
    write(folder, "tokenizer_config.json", {**config, "tokenizer_class": "BertTokenizerFast"})
    content["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": False,
        **settings,
    }
    write(folder, "tokenizer.json", content)


def test_lower_casing_of_the_model_leaves_special_tokens_alone(tiny: Path) -> None:
    set_normalizer(tiny)
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, "do_lower_case": False})
    assert ids(tiny, "Sea Shells") != ids(tiny, "sea shells")
    settings = read(tiny, "sentence_bert_config.json")
    write(tiny, "sentence_bert_config.json", {**settings, "do_lower_case": True})
    assert ids(tiny, "Sea Shells") == ids(tiny, "sea shells")
    separator = tokenizer_of(tiny).backend.token_to_id("[SEP]")
    assert separator is not None
    assert ids(tiny, "sea [SEP] shells").count(separator) == 2
    # The final sigma of Greek is decided by its word in Python, and by nothing here.
    assert ids(tiny, "ΣΑΣ") == ids(tiny, "σασ")


@pytest.mark.parametrize(
    ("key", "value", "first", "second"),
    [
        ("do_lower_case", True, "Sea Shells", "sea shells"),
        ("strip_accents", True, "caf\u00e9", "cafe"),
        ("tokenize_chinese_chars", False, "\u673a\u5668", None),
    ],
)
def test_tokenizer_config_goes_before_the_normalizer(
    tiny: Path, key: str, value: bool, first: str, second: str | None
) -> None:
    set_normalizer(tiny)
    config = read(tiny, "tokenizer_config.json")
    config = {k: v for k, v in config.items() if k not in ("do_lower_case", "strip_accents")}
    write(tiny, "tokenizer_config.json", config)
    before = ids(tiny, first)
    write(tiny, "tokenizer_config.json", {**config, key: value})
    assert ids(tiny, first) != before
    if second is not None:
        assert ids(tiny, first) == ids(tiny, second)
    # A class without such settings takes tokenizer.json as it is.
    plain = {**config, key: value, "tokenizer_class": "PreTrainedTokenizerFast"}
    write(tiny, "tokenizer_config.json", plain)
    assert ids(tiny, first) == before


def test_the_length_given_to_the_tokenizer_comes_first(tiny: Path) -> None:
    write(
        tiny,
        "sentence_bert_config.json",
        {"max_seq_length": 128, "tokenizer_args": {"model_max_length": 9}},
    )
    assert resolve(tiny).architecture.max_seq_length == 9
    assert len(ids(tiny, "sea shells " * 50)) == 9


@pytest.mark.parametrize("key", ["padding_side", "truncation_side"])
def test_a_side_that_is_none_is_named(tiny: Path, key: str) -> None:
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, key: "middle"})
    with pytest.raises(core.ModelFormatError, match=f"{key} is 'middle'"):
        tokenizer_of(tiny)
