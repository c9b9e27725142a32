"""Processes that tokenize beside the one that keeps a device busy."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import core
from core import EmbeddingModel
from core.engine import encode
from core.machine.child import Child
from core.tokenizer import beside
from core.tokenizer.beside import TokenizingProcesses, processes_beside
from core.tokenizer.tokenizer import TokenizedTexts, Tokenizer
from tests.engine.test_ahead import TEXTS, Device


@pytest.fixture
def model(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmbeddingModel]:
    monkeypatch.setattr(beside, "_LEAST_CPUS", 1)
    monkeypatch.setattr(encode, "_LEAST_BESIDE", 2)
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as loaded:
        yield loaded


def started(model: EmbeddingModel) -> TokenizingProcesses:
    """Its processes, all of them there."""
    found = processes_beside(model.tokenizer)
    assert found is not None
    deadline = time.monotonic() + 60
    while len(found.pids) < beside.PROCESSES:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_many_texts_are_tokenized_elsewhere(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.encode(TEXTS)
    Device(model)
    processes = started(model)
    here: list[int] = []
    own = Tokenizer.encode

    def watched(self: Tokenizer, texts: list[str]) -> TokenizedTexts:
        here.append(len(texts))
        return own(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", watched)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    assert not here
    # When one is killed, this process does its work, and the other goes on.
    os.kill(processes.pids[0], signal.SIGKILL)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    assert here
    assert len(processes.pids) == beside.PROCESSES - 1
    # A few are not worth a way to another process and back.
    here.clear()
    model.encode(TEXTS[:16])
    assert sum(here) == 16


def test_they_end_with_the_model(model: EmbeddingModel) -> None:
    pids = started(model).pids
    assert all(map(is_running, pids))
    model.close()
    assert not any(map(is_running, pids))


def test_they_end_with_a_model_that_is_closed_while_they_start(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = [], threading.Event()
    start = Child.start

    def slow_start(self: Child) -> None:
        go_on.wait()
        start(self)
        begun.append(self.pid)

    monkeypatch.setattr(Child, "start", slow_start)
    processes_beside(model.tokenizer)
    model.close()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "core-tokenizer-start":
            thread.join(60)
    assert len(begun) == beside.PROCESSES
    assert not any(map(is_running, begun))


def test_what_a_text_raises_there_is_raised_here(model: EmbeddingModel) -> None:
    processes = started(model)
    with pytest.raises(TypeError) as caught:
        processes.encode(model.tokenizer, [1, 2])  # type: ignore[list-item]
    assert "core/tokenizer/worker.py" in "".join(caught.value.__notes__)  # where it happened
    assert processes.encode(model.tokenizer, ["a b"]).lengths.tolist() == [4]


def test_threads_that_ask_first_share_the_processes(model: EmbeddingModel) -> None:
    together = threading.Barrier(4)

    def ask(number: int) -> TokenizingProcesses | None:
        together.wait()
        return processes_beside(model.tokenizer)

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(ask, range(4)))
    assert len(found) == 1
    assert started(model) in found


def test_what_cannot_be_sent_takes_no_process(model: EmbeddingModel) -> None:
    processes = started(model)

    class Local(str):  # which no other process finds
        pass

    for _ in range(beside.PROCESSES + 1):
        with pytest.raises(Exception, match="Local"):
            processes.encode(model.tokenizer, [Local("a b")])
    assert len(processes.pids) == beside.PROCESSES
    assert processes.encode(model.tokenizer, ["a b"]).lengths.tolist() == [4]


def test_a_tokenizer_is_pickled_with_its_settings(model: EmbeddingModel) -> None:
    tokenizer = model.tokenizer.with_max_length(7)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.max_length == 7
    assert vars(again).keys() == vars(tokenizer).keys()
    np.testing.assert_array_equal(again.encode(TEXTS).ids, tokenizer.encode(TEXTS).ids)


def test_there_are_none_where_they_would_harm(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "is_frozen", lambda: True)
    assert processes_beside(model.tokenizer) is None
    monkeypatch.undo()
    monkeypatch.setattr(beside, "available_cpus", lambda: 3)
    assert processes_beside(model.tokenizer) is None
