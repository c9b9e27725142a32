"""The encode engine: one result whatever the budget, the workers, the order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import EmbeddingModel, OptionError, PluginError
from core.engine.batching import cpu_batch_tokens, cut_batches
from core.machine.processor import cache_bytes
from core.tokenizer.tokenizer import TokenizedTexts
from tests.conftest import kept
from tests.engine.recorder import Recorder
from tests.engine.texts import AWKWARD, english

BACKENDS = ("torch", "onnx", "openvino")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    paragraphs = english()
    choose = random.Random(1)
    mixed = [choose.choice(paragraphs)[: choose.randint(1, 600)] for _ in range(70)]
    return [*mixed, "", *AWKWARD, *mixed[:9]]


@pytest.fixture(scope="module", params=BACKENDS)
def model(
    request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]
) -> Iterator[EmbeddingModel]:
    with core.load(tiny_model("bert-mean"), backend=request.param) as loaded, kept(loaded):
        yield loaded


@pytest.fixture(scope="module")
def expected(model: EmbeddingModel, texts: list[str]) -> np.ndarray[Any, Any]:
    """Every text by itself."""
    return np.stack([model.encode(text) for text in texts])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_tokens": 1},
        {"batch_tokens": 100},
        {"batch_tokens": 1_000_000},
        {"batch_size": 3},
        {"batch_size": 1_000, "batch_tokens": 700},
        {"workers": 1},
        {"workers": 2},
        {"workers": 64, "batch_tokens": 40},
        {"workers": np.int64(2), "batch_size": np.int64(7)},
    ],
    ids=str,
)
def test_no_setting_changes_the_result(
    model: EmbeddingModel,
    texts: list[str],
    expected: np.ndarray[Any, Any],
    options: dict[str, Any],
) -> None:
    np.testing.assert_allclose(model.encode(texts, **options), expected, atol=1e-5)


def test_order_does_not_change_the_result(
    model: EmbeddingModel, texts: list[str], expected: np.ndarray[Any, Any]
) -> None:
    order = np.random.default_rng(2).permutation(len(texts))
    shuffled = model.encode([texts[i] for i in order])
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)
    blocks = list(model.encode_stream(iter(texts), window=17))
    assert [len(block) for block in blocks[:-1]] == [17] * (len(blocks) - 1)
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)


def test_token_embeddings_do_not_depend_on_the_batch(
    model: EmbeddingModel, texts: list[str]
) -> None:
    together = model.encode(texts, output_value="token_embeddings", batch_tokens=500)
    for text, rows in zip(texts[::6], together[::6], strict=True):
        alone = model.encode(text, output_value="token_embeddings")
        np.testing.assert_allclose(rows, alone, atol=1e-5)


@pytest.fixture
def torch_model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as loaded:
        yield loaded


def test_equal_texts_are_computed_once(torch_model: EmbeddingModel) -> None:
    recorder = Recorder(torch_model)
    rows = torch_model.encode(["one", "two", "one", "three", "two", "one"])
    assert recorder.rows == 3
    np.testing.assert_array_equal(rows[[0, 2, 5]], rows[[0, 0, 0]])
    np.testing.assert_array_equal(rows[1], rows[4])
    assert not np.allclose(rows[0], rows[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_batch_names_the_callers_positions_and_the_model_stays_usable(
    torch_model: EmbeddingModel, workers: int
) -> None:
    poison, again = torch_model.tokenize("机")["input_ids"][0][1], [True]
    texts = ["same text"] * 10 + ["another text"] * 5 + ["机"] + [f"text {i}" for i in range(200)]
    recorder = Recorder(
        torch_model, lambda batch: bool((batch.input_ids == poison).any()) and again.pop()
    )
    with pytest.raises(PluginError, match=r"at positions 15 .*MemoryError: no room") as caught:
        torch_model.encode(texts, batch_size=1, workers=workers)
    assert isinstance(caught.value.__cause__, MemoryError)
    again.append(False)
    recorder.batches.clear()
    assert torch_model.encode(texts).shape == (216, 32)
    assert recorder.rows == 203


def test_a_lone_surrogate_is_named(torch_model: EmbeddingModel) -> None:
    with pytest.raises(OptionError, match=r"Input 2 has the lone surrogate .* at character 4"):
        torch_model.encode(["fine", "whole \U0001f600", "half\ud83d"])
    stream = torch_model.encode_stream(["a", "b", "c", "\udc80"], window=2)
    next(stream)
    with pytest.raises(OptionError, match="Input 3 has the lone surrogate"):
        next(stream)
    with pytest.raises(OptionError, match="prompt has the lone surrogate"):
        torch_model.encode("fine", prompt="half\ud83d")


def test_few_texts_are_shared_out_evenly() -> None:
    lengths = np.array([30] * 20 + [10] * 20, dtype=np.int64)
    tokens = TokenizedTexts(np.zeros(int(lengths.sum()), np.int32), lengths)

    def sizes(workers: int, batch_size: int | None = None) -> list[int]:
        batches = cut_batches(
            tokens, batch_tokens=600, batch_size=batch_size, pad_id=0, padding_side="right",
            workers=workers,
        )  # fmt: skip
        assert sorted(np.concatenate([p for p, _ in batches])) == list(range(40))
        for _, batch in batches:
            assert batch.rows * batch.width <= 600
        return [batch.rows * batch.width for _, batch in batches]

    assert len(sizes(1)) == 2
    for workers in (2, 4):
        shared = sizes(workers)
        assert len(shared) >= workers
        assert max(shared) < 1.5 * sum(shared) / len(shared)
    assert len(sizes(2, batch_size=5)) == 8


def test_workers_end_together_on_many_texts() -> None:
    lengths = np.full(103, 100, dtype=np.int64)
    tokens = TokenizedTexts(np.zeros(int(lengths.sum()), np.int32), lengths)

    def rows(workers: int) -> list[int]:
        batches = cut_batches(
            tokens, batch_tokens=300, batch_size=None, pad_id=0, padding_side="right",
            workers=workers,
        )  # fmt: skip
        return [batch.rows for _, batch in batches]

    assert rows(1) == [3] * 34 + [1]
    # One text is too small a batch to share out.
    assert rows(2) == [3] * 34 + [1]
    assert rows(4) == [3] * 32 + [2, 2, 2, 1]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_sharing_out_breaks_no_limit(workers: int, batch_size: int | None) -> None:
    draw = np.random.default_rng(5)
    for count in (9, 99, 100, 350):
        lengths = np.asarray(draw.integers(10, 200, size=count), dtype=np.int64)
        tokens = TokenizedTexts(np.zeros(int(lengths.sum()), np.int32), lengths)
        batches = cut_batches(
            tokens, batch_tokens=256, batch_size=batch_size, pad_id=0, padding_side="right",
            workers=workers,
        )  # fmt: skip
        found = list(batches)
        assert sorted(np.concatenate([p for p, _ in found])) == list(range(count))
        assert all(batch.rows == 1 or batch.rows * batch.width <= 256 for _, batch in found)
        assert all(batch.rows <= (batch_size or count) for _, batch in found)


@pytest.mark.parametrize("count", [4, 8, 30, 64])
def test_few_texts_of_mixed_lengths_are_done_soon(count: int) -> None:
    """Little padding, and workers that end together: a batch costs its tokens and 30 more."""
    draw = np.random.default_rng(7)
    padded, ends, ideal = 0, 0, 0
    for _ in range(20):
        lengths = np.asarray(draw.integers(10, 256, size=count), dtype=np.int64)
        tokens = TokenizedTexts(np.zeros(int(lengths.sum()), np.int32), lengths)
        batches = cut_batches(
            tokens, batch_tokens=512, batch_size=None, pad_id=0, padding_side="right", workers=2
        )
        free = [0, 0]
        for _, batch in batches:
            padded += batch.rows * batch.width
            free = sorted((free[0] + batch.rows * batch.width + 30, free[1]))
        ends += max(free)
        ideal += int(lengths.sum())
    assert padded < {4: 1.1, 8: 1.08, 30: 1.05, 64: 1.04}[count] * ideal
    # What no cut can avoid: the longest of 4 texts is nearly half of all.
    assert ends < {4: 0.82, 8: 0.7, 30: 0.62, 64: 0.6}[count] * ideal


def test_a_text_over_the_budget_runs_alone() -> None:
    lengths = np.array([5, 900, 5, 0], dtype=np.int64)
    tokens = TokenizedTexts(np.ones(910, np.int32), lengths)
    batches = cut_batches(
        tokens, batch_tokens=64, batch_size=None, pad_id=9, padding_side="left", workers=2
    )
    found = [(positions.tolist(), batch) for positions, batch in batches]
    assert [positions for positions, _ in found] == [[1], [0, 2, 3]]
    assert found[1][1].attention_mask.sum(axis=1).tolist() == [5, 5, 0]
    assert found[1][1].input_ids[2].tolist() == [9] * 5


def test_the_budget_follows_the_models_width_and_the_cache() -> None:
    def tokens(config: dict[str, int], megabytes: int = 17) -> int:
        return cpu_batch_tokens(config, 2, megabytes * 2**20)

    assert tokens({"intermediate_size": 1_536}) == 512
    assert tokens({"hidden_size": 384}) == 512
    assert tokens({"hidden_size": 16}) == tokens({"intermediate_size": 64})
    assert tokens({"intermediate_size": 4_096}) == 256
    assert tokens({}) == 512
    assert tokens({"intermediate_size": 1_536}, megabytes=5) == 256
    assert tokens({"intermediate_size": 1_536}, megabytes=64) == 1_024


def test_caches_are_shared_by_busy_cores(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    levels = [
        ("1", "Data", "32K", "0"),
        ("2", "Unified", "1024K", "0,8"),
        ("3", "Unified", "32M", "0-15"),
    ]
    for index, (level, kind, size, sharing) in enumerate(levels):
        (folder / f"index{index}").mkdir(parents=True)
        names = ("level", "type", "size", "shared_cpu_list")
        for name, value in zip(names, (level, kind, size, sharing), strict=True):
            (folder / f"index{index}" / name).write_text(value + "\n")
    megabyte = 2**20
    assert cache_bytes(1, tmp_path) == 33 * megabyte
    assert cache_bytes(4, tmp_path) == 8.5 * megabyte
    assert cache_bytes(64, tmp_path) == 2.5 * megabyte
    assert cache_bytes(2, tmp_path / "elsewhere") is None
    (folder / "index2" / "size").write_text("unknown")
    assert cache_bytes(2, tmp_path) is None


def test_streams_of_huge_texts_come_in_smaller_windows(torch_model: EmbeddingModel) -> None:
    made = 0

    def source() -> Iterator[str]:
        nonlocal made
        for _ in range(200):
            made += 1
            yield f"{made} " + "x " * 500_000

    first = next(torch_model.encode_stream(source()))
    assert len(first) == made == 64
