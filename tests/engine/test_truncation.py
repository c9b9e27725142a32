"""Texts with more tokens than the model reads: counted, warned of, refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import EmbeddingModel, OptionError, ProcessPool, UnsupportedOperation
from core.cli import main
from core.sentence_transformers import SentenceTransformer
from core.tokenizer.tokenizer import Tokenizer
from tests.conftest import Exports, kept
from tests.engine.test_prefix import KINDS
from tests.engine.texts import long_texts

FITS, LONG = "fox " * 126, "fox " * 127  # with [CLS] and [SEP]: 128 and 129 tokens
TEXTS = ["fox", LONG, FITS, "fox " * 5_000, LONG]


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    path = tiny_model("bert-prompts")
    with core.load(path, backend="torch", device="cpu") as loaded, kept(loaded):
        yield loaded


def test_tokens_are_counted_uncut(model: EmbeddingModel) -> None:
    counts = model.count_tokens(TEXTS)
    assert counts.dtype == np.int64
    assert counts.tolist() == [3, 129, 128, 5_002, 129]
    assert model.count_tokens("fox").tolist() == [3]
    assert model.count_tokens([]).tolist() == []
    assert model.count_tokens("").tolist() == [2]
    assert model.tokenize(TEXTS)["input_ids"].shape == (5, 128)
    with pytest.raises(OptionError, match="Input 1 is int"):
        model.count_tokens(["a", 1])  # type: ignore[list-item]


def test_texts_that_would_be_cut_are_refused_by_position(model: EmbeddingModel) -> None:
    says = r"3 of 5 texts have more tokens than the 128 .*positions 1 \(129 .*3 \(5,002 .*4 \(129 "
    for options in ({}, {"output_value": "token_embeddings"}, {"batch_size": 1}):
        with pytest.raises(OptionError, match=says):
            model.encode(TEXTS, truncation="error", **options)
    with pytest.raises(OptionError, match=r"1 of 1 texts has more .*position 0 \(129 tokens\)\."):
        model.encode(LONG, truncation="error")
    fitting = ["fox", FITS]
    np.testing.assert_array_equal(model.encode(fitting, truncation="error"), model.encode(fitting))
    assert model.encode([], truncation="error").shape == (0, 32)


def test_a_warning_names_them_and_embeds_what_fits(
    model: EmbeddingModel, caplog: pytest.LogCaptureFixture
) -> None:
    expected = model.encode(TEXTS, truncation="cut")
    np.testing.assert_array_equal(expected, model.encode(TEXTS))
    assert not caplog.records
    np.testing.assert_array_equal(model.encode(TEXTS, truncation="warn"), expected)
    (record,) = caplog.records
    assert "positions 1 (129 tokens), 3 (5,002 tokens), 4 (129 tokens)" in record.message


def test_many_positions_are_counted_and_a_few_shown(model: EmbeddingModel) -> None:
    with pytest.raises(
        OptionError, match=r"9 of 9 texts .*positions 0 .*, 4 \(129 tokens\), \.\.\."
    ):
        model.encode([LONG] * 9, truncation="error")


def test_the_prompt_counts(model: EmbeddingModel) -> None:
    for options in ({"prompt": "fox "}, {"prompt_name": "query"}):
        with pytest.raises(OptionError, match=r"position 0 \(1\d\d tokens\)"):
            model.encode([FITS], truncation="error", **options)


def test_a_stream_and_a_pool_count_from_their_first_text(
    model: EmbeddingModel, exports: Exports
) -> None:
    rows = ["fox"] * 5 + [LONG]
    stream = model.encode_stream(iter(rows), window=4, truncation="error")
    assert next(stream).shape == (4, 32)
    with pytest.raises(OptionError, match=r"1 of 2 texts .*position 5 \(129"):
        next(stream)
    # Counting is core's; the worker of this backend starts in a fraction of a second.
    with (
        core.load(exports("bert-prompts", "onnx"), backend="onnx") as exported,
        ProcessPool(exported, processes=1) as pool,
    ):
        with pytest.raises(OptionError, match=r"1 of 6 texts .*position 5 \(129"):
            pool.encode(rows, truncation="error")
        with pytest.raises(OptionError, match=r"1 of 2 texts .*position 5 \(129"):
            list(pool.encode_stream(iter(rows), window=4, truncation="error"))
        np.testing.assert_allclose(
            pool.encode(rows, truncation="warn"), model.encode(rows), atol=1e-5
        )


def test_the_hooks_and_the_drop_in_check_too(
    model: EmbeddingModel, tiny_model: Callable[[str], Path]
) -> None:
    options = core.EncodeOptions(truncation="error")
    with pytest.raises(OptionError, match=r"position 0 \(129"):
        core.hooks("torch").encode(model=model, texts=[LONG], options=options)
    drop_in = SentenceTransformer(str(tiny_model("bert-prompts")), device="cpu")
    for encode in (drop_in.encode, drop_in.encode_query, drop_in.encode_document):
        with pytest.raises(ValueError, match=r"position 0 \(1\d\d tokens"):
            encode([LONG], truncation="error")
        assert encode([LONG]).shape == (1, 32)


def test_another_value_is_refused(model: EmbeddingModel) -> None:
    for wrong in ("raise", True, 5):
        with pytest.raises(OptionError, match="truncation must be one of 'cut', 'warn', 'error'"):
            model.encode(["fox"], truncation=wrong)


def test_from_the_command_line(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "texts.txt"
    source.write_text(f"fox\n{FITS}\n{LONG}\n")
    output = tmp_path / "vectors.npy"
    command = ["encode", str(tiny_model("bert-mean")), "--backend", "torch", "-i", str(source)]
    command += ["-o", str(output)]
    assert main([*command, "--truncation", "error"]) != 0
    assert "position 2 (129 tokens)" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "--truncation", "cut"]) == 0
    assert np.load(output).shape == (3, 32)


def test_a_backend_that_takes_text_cannot_tell(model: EmbeddingModel) -> None:
    taken, model._tokenizer = model._tokenizer, None
    try:
        with pytest.raises(UnsupportedOperation, match="takes text"):
            model.encode(["fox"], truncation="warn")
        with pytest.raises(UnsupportedOperation, match="no tokenizer"):
            model.count_tokens(["fox"])
    finally:
        model._tokenizer = taken


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_hides_nothing(kind: str, side: str) -> None:
    """Of long texts a prefix is tokenized; what is cut is known as from the whole."""
    backend = KINDS[kind]()
    backend.no_truncation()
    backend.no_padding()
    texts = [*long_texts(40, seed=9), "word" + " " * 20_000, "a b c " + " " * 20_000 + "d", ""]
    whole: list[Any] = backend.encode_batch_fast(texts, add_special_tokens=True)
    lengths = np.array([len(encoding) for encoding in whole])
    limit = int(np.median(lengths))
    for window in (limit, limit - 1, limit + 1, 16):
        tokenizer = Tokenizer(KINDS[kind](), max_length=window, truncation_side=side)
        positions, counts = tokenizer.find_cut(texts)
        np.testing.assert_array_equal(positions, np.flatnonzero(lengths > window))
        np.testing.assert_array_equal(counts, lengths[lengths > window])
        np.testing.assert_array_equal(tokenizer.count(texts), lengths)
    assert not len(Tokenizer(KINDS[kind]()).find_cut(texts)[0])
