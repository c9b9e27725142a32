"""Work done ahead for a device that computes while its caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import EmbeddingModel, PluginError, TokenBatch
from tests.engine.recorder import Recorder

TEXTS = [f"text {i} " + "word " * (i * 7 % 40) for i in range(100)] + ["", "text 3 ", "text 3 "]


class Device(Recorder):
    """A device with a queue: says in `events` what is started, and what is read, and when."""

    def __init__(self, model: EmbeddingModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self.max_workers, self.batches_ahead, self.texts_ahead = 1, 2, 16
        self.events: list[tuple[str, int]] = []

    def preferred_workers(self, batches: int) -> int:
        return 1

    def start_sentence_embeddings(self, batch: TokenBatch) -> Callable[[], Any]:
        number = len(self.batches)
        self.events.append(("start", number))
        self.batches.append(batch)

        def read() -> Any:
            self.events.append(("read", number))
            if self._fails(batch):
                raise MemoryError("no room for this batch")
            return self._inner.sentence_embeddings(batch)

        return read


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as loaded:
        yield loaded


def test_batches_are_started_before_others_are_read(model: EmbeddingModel) -> None:
    expected = model.encode(TEXTS)
    device = Device(model)
    np.testing.assert_allclose(model.encode(TEXTS, batch_tokens=100), expected, atol=1e-5)
    count = len(device.batches)
    assert count > 10
    events = device.events
    assert [n for what, n in events if what == "start"] == list(range(count))
    assert [n for what, n in events if what == "read"] == list(range(count))
    for number in range(count - 2):
        assert events.index(("start", number + 2)) < events.index(("read", number))
    waiting = 0
    for what, _ in events:
        waiting += 1 if what == "start" else -1
        assert waiting <= 3


def test_texts_are_tokenized_while_others_are_computed(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.encode(TEXTS)
    device = Device(model)
    tokenizer = type(model.tokenizer)
    encode, started_by, parts = tokenizer.encode, [], []

    def watched(self: Any, texts: Any) -> Any:
        parts.append(len(texts))
        started_by.append((threading.current_thread().name, len(device.batches)))
        return encode(self, texts)

    monkeypatch.setattr(tokenizer, "encode", watched)
    found = model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert parts == [2, 16, 16, 16, 16, 16, 16, 4]  # the text given three times is computed once
    assert all(name.startswith("core-tokenize") for name, _ in started_by)
    # Every part but the first begins before the last batch of the part before it is started.
    assert [batches for _, batches in started_by] == sorted(b for _, b in started_by)
    assert started_by[-1][1] < len(device.batches) - 1
    parts.clear()
    model.encode(TEXTS[:16])
    assert parts == [16]


def test_the_callers_settings_count_with_work_done_ahead(model: EmbeddingModel) -> None:
    expected = model.encode(TEXTS)
    device = Device(model)
    for options in ({"batch_size": 3}, {"workers": 1}, {"batch_tokens": 1}):
        found = model.encode(TEXTS, **options)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    blocks = list(model.encode_stream(iter(TEXTS), window=40))
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)
    assert max(batch.rows for batch in device.batches) <= 16


def test_a_batch_that_fails_after_it_was_started_is_named(model: EmbeddingModel) -> None:
    expected = model.encode(TEXTS[:1])
    long = max(range(100), key=lambda i: len(TEXTS[i]))
    widest = model.tokenize([TEXTS[long]])["input_ids"].shape[1]
    Device(model, fails=lambda batch: batch.width == widest)
    with pytest.raises(PluginError, match=rf"positions .*\b{long}\b.*no room for this batch"):
        model.encode(TEXTS, batch_size=1)
    np.testing.assert_allclose(model.encode(TEXTS[:1]), expected, atol=1e-5)


def test_a_text_that_cannot_be_tokenized_fails_the_call(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    Device(model)
    tokenizer = type(model.tokenizer)
    encode = tokenizer.encode

    def broken(self: Any, texts: Any) -> Any:
        if TEXTS[50] in texts:
            raise core.ModelFormatError("The model's tokenizer cannot encode a text")
        return encode(self, texts)

    monkeypatch.setattr(tokenizer, "encode", broken)
    with pytest.raises(core.ModelFormatError, match="cannot encode a text"):
        model.encode(TEXTS)
    assert not [t for t in threading.enumerate() if t.name.startswith("core-tokenize")]
