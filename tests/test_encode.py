"""`model.encode`: order, batches, duplicates, prompts, precisions, threads."""

from __future__ import annotations

import logging
import pickle
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core
from core import EmbeddingModel
from tests.conftest import kept
from tests.engine.recorder import Recorder

TEXTS = [
    "",
    "   ",
    "one",
    "A sentence about embeddings.",
    "机器学习模型把文本变成向量。",
    "🙂🚀 emoji and 👩‍👩‍👧 families",
    "naïve café Łódź",
    "word " * 300,
    "A sentence about embeddings.",
    "tab\tand\nnewline\r\nand \x00 control",
]


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as loaded, kept(loaded):
        yield loaded


@pytest.fixture(scope="module")
def prompted(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    path = tiny_model("bert-prompts")
    with core.load(path, backend="torch", device="cpu") as loaded, kept(loaded):
        yield loaded


@pytest.fixture
def own(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    """A model for one test alone, to change."""
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as loaded:
        yield loaded


def test_a_list_gives_a_float32_matrix_and_a_string_a_vector(model: EmbeddingModel) -> None:
    matrix = model.encode(["one text", "another"])
    assert matrix.shape == (2, 32)
    assert matrix.dtype == np.float32
    vector = model.encode("one text")
    assert vector.shape == (32,)
    np.testing.assert_allclose(vector, matrix[0], atol=1e-5)


def test_nothing_in_gives_nothing_out(model: EmbeddingModel) -> None:
    result = model.encode([])
    assert result.shape == (0, 32)
    assert result.dtype == np.float32
    assert model.encode([], output_value="token_embeddings") == []


def test_results_follow_the_inputs_in_any_order(model: EmbeddingModel) -> None:
    expected = model.encode(TEXTS)
    for seed in range(5):
        order = list(range(len(TEXTS)))
        random.Random(seed).shuffle(order)
        shuffled = model.encode([TEXTS[i] for i in order])
        np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 3},
        {"batch_tokens": 1},
        {"batch_tokens": 100_000},
        {"workers": 2},
    ],
)
def test_batching_does_not_change_results(model: EmbeddingModel, options: dict[str, int]) -> None:
    alone = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS, **options), alone, atol=1e-5)


def test_left_padded_models_do_not_depend_on_their_batch(
    tiny_model: Callable[[str], Path],
) -> None:
    model = core.load(tiny_model("qwen3"), backend="torch", device="cpu")
    assert model.tokenizer.padding_side == "left"
    alone = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS), alone, atol=1e-5)


def test_equal_texts_are_computed_once(own: EmbeddingModel) -> None:
    recorder = Recorder(own)
    result = own.encode(["same", "other", "same", "same", "other"])
    assert recorder.rows == 2
    np.testing.assert_array_equal(result[[0, 0, 1]], result[[2, 3, 4]])
    assert not np.allclose(result[0], result[1])


def test_numpy_arrays_tuples_and_generators_of_strings_are_taken(model: EmbeddingModel) -> None:
    expected = model.encode(["a", "b"])
    for texts in (("a", "b"), np.array(["a", "b"]), iter(["a", "b"])):
        np.testing.assert_array_equal(model.encode(texts), expected)  # type: ignore[arg-type]


def test_token_embeddings_have_one_row_a_token(model: EmbeddingModel) -> None:
    texts = ["short", "a somewhat longer sentence", ""]
    rows = model.encode(texts, output_value="token_embeddings")
    lengths = model.tokenize(texts)["attention_mask"].sum(axis=1)
    assert [row.shape for row in rows] == [(n, 32) for n in lengths]
    # Mean pooling of the token embeddings is the sentence embedding.
    pooled = np.stack([row.mean(axis=0) for row in rows])
    np.testing.assert_allclose(pooled, model.encode(texts), atol=1e-5)


def test_normalize_truncate_and_order_of_both(model: EmbeddingModel) -> None:
    plain = model.encode(TEXTS)
    cut = model.encode(TEXTS, truncate_dim=8)
    np.testing.assert_allclose(cut, plain[:, :8], atol=1e-6)
    unit = model.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(unit, cut / np.linalg.norm(cut, axis=1)[:, None], atol=1e-5)


def test_truncation_set_at_load(tiny_model: Callable[[str], Path]) -> None:
    model = core.load(tiny_model("bert-mean"), backend="torch", device="cpu", truncate_dim=12)
    assert model.dimension == 12
    assert model.full_dimension == 32
    assert model.encode(["a"]).shape == (1, 12)
    assert model.encode(["a"], truncate_dim=5).shape == (1, 5)


def test_binary_precisions_pack_signs(model: EmbeddingModel) -> None:
    plain = model.encode(TEXTS)
    ubinary = model.encode(TEXTS, precision="ubinary")
    binary = model.encode(TEXTS, precision="binary")
    assert (ubinary.dtype, binary.dtype) == (np.uint8, np.int8)
    assert ubinary.shape == binary.shape == (len(TEXTS), 4)
    bits = np.unpackbits(ubinary, axis=1).astype(bool)
    np.testing.assert_array_equal(bits, plain > 0)
    np.testing.assert_array_equal(binary.astype(int), ubinary.astype(int) - 128)


def test_byte_precisions_span_each_dimension(
    model: EmbeddingModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "core"):
        signed = model.encode(TEXTS, precision="int8")
    assert "100" in caplog.text  # few rows give poor ranges
    unsigned = model.encode(TEXTS, precision="uint8")
    assert (signed.dtype, unsigned.dtype) == (np.int8, np.uint8)
    assert unsigned.min(axis=0).max() == 0
    assert unsigned.max(axis=0).min() >= 254  # rounded down, as the reference does
    np.testing.assert_array_equal(signed, unsigned.astype(np.int16) - 128)
    plain = model.encode(TEXTS)
    low, high = plain.min(axis=0), plain.max(axis=0)
    restored = unsigned * (high - low) / 255 + low
    assert np.abs(restored - plain).max() <= ((high - low) / 255).max() * 1.01


def test_signed_bytes_are_the_unsigned_ones_less_128_on_both_sides_of_zero() -> None:
    rows = np.array([[0.0], [0.26], [0.49], [0.51], [0.99]], dtype=np.float32)
    ranges = np.array([[0.0], [1.0]], dtype=np.float32)
    unsigned = core.quantize_embeddings(rows, "uint8", ranges=ranges)
    signed = core.quantize_embeddings(rows, "int8", ranges=ranges)
    assert unsigned[:, 0].tolist() == [0, 66, 124, 130, 252]
    assert signed[:, 0].tolist() == [-128, -62, -4, 2, 124]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"embeddings": [[0.5, np.nan], [1.0, 2.0]]}, "hold NaN, first in row 0"),
        ({"embeddings": [[0.5, 1.0], [1.0, np.nan]], "precision": "binary"}, "first in row 1"),
        ({"embeddings": [[0.5, np.inf], [1.0, 2.0]]}, "dimension 1 goes from 2.0 to inf"),
        ({"ranges": [[2.0, 0.0], [0.0, 2.0]]}, "dimension 0 goes from 2.0 to 0.0"),
        ({"ranges": [[0.0, np.nan], [2.0, 2.0]]}, "dimension 1 goes from nan to 2.0"),
        ({"calibration_embeddings": [[0.0, np.nan], [2.0, 2.0]]}, "dimension 1 goes from nan"),
    ],
)
def test_quantize_embeddings_refuses_what_has_no_bucket(given: dict[str, Any], says: str) -> None:
    usual = {"embeddings": [[0.5, 1.0], [1.0, 2.0]], "precision": "int8"}
    with pytest.raises(core.OptionError, match=re.escape(says)):
        core.quantize_embeddings(**{**usual, **given})


@pytest.mark.parametrize(
    "wrong",
    [
        [[None, 1.0]],
        [["1", "2"]],
        np.array([["1", None]], dtype=object),
        np.array([[1 + 2j, 3]]),
        np.array([[1, 2]], dtype="m8[s]"),
        np.ma.array([[1.0, 2.0]], mask=[[True, False]]),
    ],
    ids=["None", "texts", "objects", "complex", "times", "masked"],
)
def test_embeddings_without_numbers_are_refused(own: EmbeddingModel, wrong: Any) -> None:
    rows = np.ones((1, 2), np.float32)
    with pytest.raises(core.OptionError, match="a must be an array of numbers"):
        own.similarity(wrong, rows)
    with pytest.raises(core.OptionError, match="b must be an array of numbers"):
        own.similarity_pairwise(rows, wrong)
    with pytest.raises(core.OptionError, match="embeddings must be an array of numbers"):
        core.quantize_embeddings(wrong, "ubinary")
    with pytest.raises(core.OptionError, match="array must be an array of numbers"):
        core.SparseEmbeddings.from_dense(wrong)


def test_quantize_embeddings_takes_ranges_of_a_calibration_set() -> None:
    rows = np.array([[-2.0, 0.0], [0.5, 9.0]], dtype=np.float32)
    ranges = np.array([[-1.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    quantized = core.quantize_embeddings(rows, "uint8", ranges=ranges)
    np.testing.assert_array_equal(quantized, [[0, 0], [191, 255]])
    calibrated = core.quantize_embeddings(
        rows, "uint8", calibration_embeddings=np.repeat(ranges, 50, axis=0)
    )
    np.testing.assert_array_equal(calibrated, quantized)
    with pytest.raises(core.OptionError, match=r"\[2, 2\]"):
        core.quantize_embeddings(rows, "int8", ranges=ranges[:1])


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_embeddings_that_are_quantized_are_not_quantized_again(precision: str) -> None:
    rows = np.random.default_rng(7).normal(size=(120, 8)).astype(np.float32)
    quantized = core.quantize_embeddings(rows, "int8")
    for given in (quantized, list(quantized), quantized.view(np.uint8)):
        with pytest.raises(core.OptionError, match=r"embeddings are u?int8: quantized already"):
            core.quantize_embeddings(given, precision)
    with pytest.raises(core.OptionError, match="calibration_embeddings are int8"):
        core.quantize_embeddings(rows, precision, calibration_embeddings=quantized)


def test_convert_to_tensor(model: EmbeddingModel) -> None:
    tensor = model.encode(["a", "b"], convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (2, 32)
    assert tensor.device.type == "cpu"
    assert model.encode("a", convert_to_tensor=True).shape == (32,)


def test_prompt_given_then_named_then_default(prompted: EmbeddingModel) -> None:
    plain = prompted.encode("fox")
    named = prompted.encode("fox", prompt_name="query")
    assert not np.allclose(plain, named)
    np.testing.assert_allclose(prompted.encode("fox", prompt="query: "), named, atol=1e-5)
    np.testing.assert_allclose(prompted.encode("fox", prompt=""), plain, atol=1e-5)
    np.testing.assert_allclose(prompted.encode_query("fox"), named, atol=1e-5)
    passage = prompted.encode("fox", prompt_name="passage")
    np.testing.assert_allclose(prompted.encode_document("fox"), passage, atol=1e-5)
    np.testing.assert_allclose(prompted.encode_document("fox", prompt=""), plain, atol=1e-5)


def test_default_prompt_of_the_load(tiny_model: Callable[[str], Path]) -> None:
    model = core.load(
        tiny_model("bert-mean"),
        backend="torch",
        device="cpu",
        prompts={"ask": "ask: "},
        default_prompt_name="ask",
    )
    np.testing.assert_allclose(model.encode("fox"), model.encode("ask: fox", prompt=""), atol=1e-5)
    # A query prompt it does not have leaves the default.
    np.testing.assert_allclose(model.encode_query("fox"), model.encode("fox"), atol=1e-5)


def test_prompts_can_be_left_out_of_pooling(
    prompted: EmbeddingModel, tiny_model: Callable[[str], Path]
) -> None:
    rows = prompted.encode(["fox jumps"], prompt="query: ", output_value="token_embeddings")[0]
    skipped = prompted.tokenizer.prompt_length("query: ")
    assert 0 < skipped < len(rows)
    expected = rows[skipped:].mean(axis=0)
    np.testing.assert_allclose(prompted.encode("fox jumps", prompt="query: "), expected, atol=1e-5)


def test_a_stream_equals_one_call_and_keeps_windows(model: EmbeddingModel) -> None:
    texts = [f"text number {i} {'long ' * (i % 7)}" for i in range(25)]

    def produce() -> Iterator[str]:
        yield from texts

    parts = list(model.encode_stream(produce(), window=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    np.testing.assert_allclose(np.concatenate(parts), model.encode(texts), atol=1e-5)


def test_a_stream_is_lazy(model: EmbeddingModel) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = model.encode_stream(endless(), window=4)
    assert taken == 0
    next(stream)
    assert taken == 4


@pytest.mark.slow
def test_sixteen_threads_share_one_model(model: EmbeddingModel) -> None:
    samples = [TEXTS[i : i + 4] for i in range(7)]
    expected = [model.encode(sample) for sample in samples]
    wrong: list[str] = []

    def work(thread: int) -> None:
        for call in range(63):
            index = (thread + call) % len(samples)
            result = model.encode(samples[index])
            if not np.allclose(result, expected[index], atol=1e-5):
                wrong.append(f"thread {thread}, call {call}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_similarity_functions(own: EmbeddingModel) -> None:
    model = own
    assert model.similarity_fn_name == "cosine"
    a, b = model.encode(TEXTS[2:6]), model.encode(TEXTS[3:7])
    formulas: dict[str, Callable[[Any, Any], Any]] = {
        "cosine": lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y),
        "dot": lambda x, y: x @ y,
        "euclidean": lambda x, y: -np.linalg.norm(x - y),
        "manhattan": lambda x, y: -np.abs(x - y).sum(),
    }
    for name, formula in formulas.items():
        model.similarity_fn_name = name
        expected = np.array([[formula(x, y) for y in b] for x in a])
        np.testing.assert_allclose(model.similarity(a, b), expected, rtol=1e-4, atol=1e-4)
        pairwise = model.similarity_pairwise(a, b)
        np.testing.assert_allclose(pairwise, expected.diagonal(), rtol=1e-4, atol=1e-4)
    model.similarity_fn_name = "cosine"
    assert model.similarity(a[0], b).shape == (1, 4)
    assert model.similarity(torch.from_numpy(a), b).shape == (4, 4)


def test_a_model_is_pickled_by_reference(prompted: EmbeddingModel) -> None:
    data = pickle.dumps(prompted)
    assert len(data) < 5_000
    again = pickle.loads(data)
    np.testing.assert_allclose(again.encode(TEXTS), prompted.encode(TEXTS), atol=1e-6)
    assert again.prompts == prompted.prompts
    assert again.similarity_fn_name == "dot"


def test_max_seq_length_can_be_lowered(own: EmbeddingModel) -> None:
    model = own
    long = "fox " * 200
    assert model.tokenize([long])["input_ids"].shape == (1, 128)
    model.max_seq_length = 16
    assert model.max_seq_length == 16
    assert model.tokenize([long])["input_ids"].shape == (1, 16)
    np.testing.assert_allclose(model.encode(long), model.encode("fox " * 50), atol=1e-5)


def test_a_closed_model_says_so(tiny_model: Callable[[str], Path]) -> None:
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as model:
        model.encode("a")
    model.close()
    with pytest.raises(core.OptionError, match="closed"):
        model.encode("a")


def test_a_failing_batch_names_its_inputs_and_leaves_the_model_usable(own: EmbeddingModel) -> None:
    failures = [True]
    Recorder(own, lambda batch: batch.width > 20 and bool(failures) and failures.pop())
    texts = ["same", "same", "short", "word " * 60]
    with pytest.raises(core.PluginError, match=r"positions? 3\b.*no room for this batch"):
        own.encode(texts, batch_size=1)
    assert own.encode(texts).shape == (4, 32)
