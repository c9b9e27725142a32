"""How requests meet in batches, who waits for whom, and what nobody wants is not computed."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import core
from core_server.job import Job
from core_server.serving import bind
from core_server.vocabulary import Vocabulary
from tests.server.conftest import PATIENCE, GatedServer, Running, running, send, wait_for


def waiting(server: Running) -> float:
    return server.metric("core_queue_inputs", model="tiny")


def test_requests_that_wait_together_are_computed_together(
    gated: GatedServer, model: core.EmbeddingModel
) -> None:
    with gated() as (server, gate):
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: gate.batches == [["the first"]])  # at once: nothing else is waited for
        texts = [f"text {i}" for i in range(12)]
        others = [send(server, "/embed", {"inputs": text, "normalize": False}) for text in texts]
        wait_for(lambda: waiting(server) == len(texts))
        gate.opened.set()
        found = np.concatenate([other.answer().json() for other in others])
        np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
        assert first.answer().status_code == 200
        assert len(gate.batches) == 2
        assert sorted(gate.batches[1]) == sorted(texts)
        assert server.metric("core_batch_inputs_sum", model="tiny") == 13
        assert server.metric("core_batch_inputs_count", model="tiny") == 2


def test_requests_with_other_prompts_are_computed_apart(
    gated: GatedServer, model: core.EmbeddingModel
) -> None:
    with gated() as (server, gate):
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        plain = send(server, "/embed", {"inputs": "a cat", "normalize": False})
        body = {"inputs": "a cat", "normalize": False, "prompt_name": "query"}
        prompted = send(server, "/embed", body)
        every = send(server, "/embed_all", {"inputs": "a cat"})
        wait_for(lambda: waiting(server) == 3)
        gate.opened.set()
        np.testing.assert_allclose(plain.answer().json()[0], model.encode("a cat"), atol=1e-5)
        expected = model.encode("a cat", prompt_name="query")
        np.testing.assert_allclose(prompted.answer().json()[0], expected, atol=1e-5)
        (tokens,) = every.answer().json()
        assert np.shape(tokens) == (model.count_tokens("a cat")[0], model.dimension)
        assert first.answer().status_code == 200


def test_a_short_text_waits_for_one_batch_of_a_long_request(gated: GatedServer) -> None:
    with gated(max_batch_tokens=64) as (server, gate):
        many = [f"long text {i} " * 8 for i in range(60)]
        long = send(server, "/embed", {"inputs": many})
        wait_for(lambda: bool(gate.batches))
        short = send(server, "/embed", {"inputs": "short"})
        wait_for(lambda: waiting(server) == 61 - len(gate.batches[0]))
        gate.opened.set()
        assert short.answer().status_code == 200
        assert long.answer().status_code == 200
        assert len(gate.batches) > 10
        place = next(i for i, batch in enumerate(gate.batches) if "short" in batch)
        assert place <= 2
        assert sum(len(batch) for batch in gate.batches) == 61


def test_what_a_client_that_hung_up_wanted_is_not_computed(gated: GatedServer) -> None:
    with gated() as (server, gate):
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        body = json.dumps({"inputs": ["unwanted"] * 5}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_for(lambda: waiting(server) == 5)
        wait_for(lambda: waiting(server) == 0)
        kept = send(server, "/embed", {"inputs": "wanted"})
        wait_for(lambda: waiting(server) == 1)
        gate.opened.set()
        assert first.answer().status_code == kept.answer().status_code == 200
        assert list(itertools.chain(*gate.batches)) == ["the first", "wanted"]
        assert server.metric("core_refused_total", reason="client gone") == 1


def test_a_request_without_a_result_in_time_is_answered_and_dropped(gated: GatedServer) -> None:
    with gated() as (server, gate):
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        late = server.post("/embed", {"inputs": "late"}, headers={"X-Request-Timeout": "0.05"})
        assert late.status_code == 504
        assert "0.05 seconds" in late.json()["error"]
        assert waiting(server) == 0
        gate.opened.set()
        assert first.answer().status_code == 200
        assert gate.batches == [["the first"]]


def test_the_server_answers_while_it_computes(gated: GatedServer) -> None:
    with gated() as (server, gate):
        sent = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        assert server.client.get("/health").status_code == 200
        assert server.client.get("/metrics").status_code == 200
        assert server.post("/tokenize", {"inputs": "a cat"}).status_code == 200
        gate.opened.set()
        assert sent.answer().status_code == 200


def test_the_server_answers_while_token_ids_become_text(
    embedding_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, opened = threading.Event(), threading.Event()
    decode = Vocabulary.decode

    def slowly(self: Vocabulary, ids: Sequence[int]) -> str:
        decoding.set()
        assert opened.wait(PATIENCE)
        return decode(self, ids)

    monkeypatch.setattr(Vocabulary, "decode", slowly)
    with running(embedding_folder, client_tokenizer="model") as server:
        sent = send(server, "/embed", {"inputs": [[5, 6], "a text"]})
        assert decoding.wait(PATIENCE)
        try:
            assert server.client.get("/health", timeout=5).status_code == 200
        finally:
            opened.set()
        assert sent.answer().status_code == 200


@pytest.mark.parametrize(
    "work",
    [
        lambda vocabulary: vocabulary.last_tokens("a small cat " * 80_000, 5),
        lambda vocabulary: vocabulary.decode([5] * 600_000),
    ],
    ids=["cut", "decode"],
)
def test_other_threads_run_while_a_long_text_is_tokenized(
    work: Callable[[Vocabulary], str], model: core.EmbeddingModel
) -> None:
    """The event loop is one of them."""
    vocabulary = Vocabulary.of_model(model)
    turns: list[None] = []
    done = threading.Event()

    def other() -> None:
        while not done.wait(0.001):
            turns.append(None)

    thread = threading.Thread(target=other)
    thread.start()
    before = len(turns)
    work(vocabulary)
    taken = len(turns) - before
    done.set()
    thread.join()
    assert taken > 5


def test_many_clients_get_their_own_results(server: Running, model: core.EmbeddingModel) -> None:
    texts = [f"text {i} " * (1 + i % 11) for i in range(64)]
    expected = model.encode(texts)
    sent = [send(server, "/embed", {"inputs": text, "normalize": False}) for text in texts]
    for one, wanted in zip(sent, expected, strict=True):
        np.testing.assert_allclose(one.answer().json()[0], wanted, atol=1e-5)


def test_padding_is_counted_as_the_engine_pads(gated: GatedServer) -> None:
    with gated() as (server, gate):
        gate.opened.set()
        texts = ["a", "a " * 20, "a " * 40]
        lengths = [len(one) for one in server.post("/tokenize", {"inputs": texts}).json()]
        server.post("/embed", {"inputs": texts})
        assert server.metric("core_tokens_total", model="tiny") == sum(lengths)
        padding = server.metric("core_padding_tokens_total", model="tiny")
        assert padding in (3 * max(lengths) - sum(lengths), 0, lengths[1] - lengths[0])
        fill = server.metric("core_batch_fill_ratio_sum", model="tiny")
        most = server.service.models.served[0].facts["max_batch_tokens"]
        assert fill == pytest.approx(sum(lengths) / most)


def test_the_end_answers_every_request_that_was_accepted(gated: GatedServer) -> None:
    with gated(max_batch_tokens=16) as (server, gate):
        sent = [send(server, "/embed", {"inputs": [f"text {i}", "more"]}) for i in range(20)]
        wait_for(lambda: server.service.in_flight == 20)
        server.end()
        wait_for(lambda: server.service.draining)
        health = server.client.get("/health/ready")
        assert health.status_code == 503
        assert health.json()["status"] == "draining"
        assert health.headers["connection"] == "close"
        wait_for(lambda: server.server.should_exit)
        opener = threading.Timer(0.1, gate.opened.set)
        opener.start()
        assert [one.answer().status_code for one in sent] == [200] * 20
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive()
        opener.join()


def test_other_requests_go_on_while_the_answers_of_a_batch_are_written(
    gated: GatedServer,
) -> None:
    with gated() as (server, gate):
        (served,) = server.service.models.served
        events: list[str] = []

        async def ask() -> None:
            loop = asyncio.get_running_loop()
            for i in range(40):
                job = Job("client", served.call("dense"), [f"text {i}"], [4], loop.create_future())
                job.future.add_done_callback(lambda _: events.append("answer"))
                served.dispatcher.submit(job)
            while events.count("answer") < 40:
                events.append("turn")
                await asyncio.sleep(0)

        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        asked = asyncio.run_coroutine_threadsafe(ask(), server.loop)
        wait_for(lambda: waiting(server) == 40)
        gate.opened.set()
        asked.result(PATIENCE)
        assert first.answer().status_code == 200
        assert len(gate.batches[1]) == 40
        runs = [len(list(run)) for event, run in itertools.groupby(events) if event == "answer"]
        assert max(runs) < 10


@contextmanager
def not_reading(server: Running) -> Iterator[socket.socket]:
    """A client that has read the first bytes of a long answer."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", server.port))
        body = json.dumps({"inputs": ["a"] * 12_000}).encode()
        head = f"POST /embed HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        client.settimeout(PATIENCE)
        assert client.recv(12) == b"HTTP/1.1 200"
        yield client


def test_a_client_that_reads_no_answer_is_cut_off(
    embedding_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("core_server.serving._IDLE_SECONDS", 1)
    with (
        running(embedding_folder, max_inputs=12_000) as server,
        not_reading(server) as client,
    ):
        wait_for(lambda: not server.server.server_state.connections)
        rest = b"".join(iter(lambda: client.recv(65_536), b""))
        assert not rest.endswith(b"0\r\n\r\n")  # the end of an answer in pieces
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_client_that_reads_slowly_is_not(
    embedding_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_server.serving._IDLE_SECONDS", 0.5)

    def bound(host: str, port: int) -> socket.socket:
        found = bind(host, port)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # little waits in the kernel
        return found

    monkeypatch.setattr("tests.server.conftest.bind", bound)
    with running(embedding_folder, max_inputs=12_000) as server, not_reading(server) as client:
        start = time.monotonic()
        while time.monotonic() - start < 3:  # several times what it may rest
            assert client.recv(2_048)
            time.sleep(0.01)
        rest = b"".join(iter(lambda: client.recv(1 << 20), b""))
        assert rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_client_that_reads_no_answer_is_cut_off_at_the_end_without_a_traceback(
    signals: int, embedding_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    timeout = 2.0 if signals == 1 else PATIENCE
    served = running(embedding_folder, max_inputs=12_000, timeout=timeout)
    with served as server, not_reading(server):
        for _ in range(signals):
            server.end()
        server.thread.join(PATIENCE / 2)
        assert not server.thread.is_alive()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert "1 connections are cut off" in caplog.text
