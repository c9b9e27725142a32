"""What is too much is refused at once, with the limit; and who has no key gets nothing."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import os
import re
import socket
import time
from typing import Any

import pytest

from tests.server.conftest import GatedServer, Running, running, send, wait_for


def test_a_full_server_refuses_at_once(gated: GatedServer) -> None:
    with gated(max_concurrent=3) as (server, gate):
        sent = [send(server, "/embed", {"inputs": f"text {i}"}) for i in range(3)]
        wait_for(lambda: server.service.in_flight == 3)
        refused = server.post("/embed", {"inputs": "one more"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "3 are accepted" in refused.json()["error"]
        assert refused.json()["error_type"] == "Overloaded"
        assert server.client.get("/health").status_code == 200
        gate.opened.set()
        assert [one.answer().status_code for one in sent] == [200] * 3
        assert server.post("/embed", {"inputs": "one more"}).status_code == 200
        assert server.metric("core_refused_total", reason="429") == 1


def test_a_full_queue_refuses_at_once(gated: GatedServer) -> None:
    with gated(max_queued_inputs=10) as (server, gate):
        first = send(server, "/embed", {"inputs": "the first"})
        wait_for(lambda: len(gate.batches) == 1)
        # One request may have more than fit, where nothing else waits.
        large = send(server, "/embed", {"inputs": ["a"] * 12})
        wait_for(lambda: server.metric("core_queue_inputs", model="tiny") == 12)
        refused = server.post("/v1/embeddings", {"input": "one more"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.opened.set()
        assert large.answer().status_code == first.answer().status_code == 200


def test_requests_over_the_limits_are_told_them(embedding_folder: Any) -> None:
    limits: dict[str, Any] = {"max_inputs": 3, "max_body_bytes": 2_000, "max_text_characters": 100}
    with running(embedding_folder, **limits) as server:
        answer = server.post("/embed", {"inputs": ["a"] * 4})
        assert answer.status_code == 413
        assert "4 entries" in answer.json()["error"]
        assert " 3." in answer.json()["error"]
        answer = server.post("/embed", {"inputs": ["a", "b" * 101]})
        assert answer.status_code == 422
        assert "inputs[1] has 101 characters" in answer.json()["error"]
        assert "100" in answer.json()["error"]
        for headers in ({}, {"Transfer-Encoding": "chunked"}):
            content: Any = json.dumps({"inputs": "b" * 3_000}).encode()
            content = iter([content[:1_500], content[1_500:]]) if headers else content
            answer = server.client.post("/embed", content=content)
            assert answer.status_code == 413
            assert "2000 bytes" in answer.json()["error"]
        assert server.post("/embed", {"inputs": ["b" * 100] * 3}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs": "a',
        b'{"inputs": NaN}',
        b"\xff\xfe",
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "\\ud800abc"}',
        b'{"inputs": "\xed\xa0\x80"}',
        b"[" * 100_000,
        b'{"inputs": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"inputs": 1' + b"0" * 5_000 + b"}",
        b'{"inputs": [1' + b"0" * 30 + b"]}",
        b'{"inputs": [-5]}',
        b'{"inputs": "a", "dimensions": 1e400}',
        b'{"inputs": "a", "prompt_name": 5}',
        b"null",
        b"[]",
        b'"text"',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", ["/embed", "/"])
def test_malformed_bodies_are_refused(server: Running, path: str, body: bytes) -> None:
    answer = server.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error", "error_type"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"", {}, 400, "The body is empty"),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "compressed ('gzip')"),
    ],
    ids=["nothing", "gzip"],
)
def test_what_is_no_body_of_json_is_named(
    server: Running, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = server.client.post("/embed", content=body, headers=headers)
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize("offered_first", [True, False])
@pytest.mark.parametrize("cuts", [(), ("\r\n\r\n",), ("Upgrade: h2c", "cat")])
def test_a_client_that_offers_another_protocol_is_answered_in_http_1(
    server: Running, cuts: tuple[str, ...], offered_first: bool
) -> None:
    """As Java's client does, and proxies in whose connections requests of several clients meet."""
    body = b'{"inputs": "a cat"}'
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n"
    offering = [head + offer + b"\r\n" + body]
    for cut in cuts:
        before, found, after = offering.pop().partition(cut.encode())
        offering += [before + found[:3], found[3:] + after]
    plain = [head + b"\r\n" + body]
    expected = server.post("/embed", {"inputs": "a cat"}).json()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pieces in [offering, plain] * 2 if offered_first else [plain, offering] * 2:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02 * (len(pieces) > 1))
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            assert json.loads(answer.read()) == expected


def test_offers_of_another_protocol_are_answered_one_after_the_other(server: Running) -> None:
    request = (
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Connection: keep-alive\r\nUpgrade: websocket\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(50 * request)
        answered = b""
        while answered.count(b"HTTP/1.1 200 OK") < 50:
            part = connection.recv(65_536)
            assert part, "it hung up"
            answered += part


def test_connections_that_cannot_be_accepted_are_told_of_once(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    told = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        "socket": None,
    }
    for _ in range(2_048):  # as asyncio does each second
        server.loop.call_soon_threadsafe(server.loop.call_exception_handler, told)
    server.loop.call_soon_threadsafe(server.loop.call_exception_handler, {"message": "other"})
    wait_for(lambda: "other" in caplog.text)
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(said) == 2
    assert "Too many open files" in said[0]
    assert "ulimit -n" in said[0]


def test_a_body_that_does_not_arrive_ends(embedding_folder: Any) -> None:
    unfinished = b'POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"in'
    with running(embedding_folder, body_timeout=0.2) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(unfinished)
            assert connection.recv(1_000).startswith(b"HTTP/1.1 408")
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(unfinished)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1_000)  # an answer, or the end: no wait
        wait_for(lambda: server.service.in_flight == 0)
        assert server.post("/embed", {"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET /health HTTP/1.1\r\nX-A: ", b"a" * 20_000),
        (b"GET /health HTTP/1.1\r\n", b"X-A: a\r\n" * 2_000),
        (b"GET /", b"a" * 20_000),
        (b"POST /embed HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: a\r\n" * 2_000),
    ],
    ids=["a header", "many headers", "a path", "trailers"],
)
def test_a_head_that_does_not_end_is_refused(server: Running, begun: bytes, more: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(begun + 1_000 * more)
    wait_for(lambda: server.service.in_flight == 0)
    long = {"X-A": "a" * 20_000}
    assert server.client.get("/health", headers=long).status_code == 200


def test_a_connection_without_a_request_ends(
    embedding_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_server.serving._IDLE_SECONDS", 0.2)
    with running(embedding_folder) as server:
        for sent in (b"", b"\r\n", b"POST /embed HTTP/1.1\r\nHost: "):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(sent)
                assert connection.recv(1_000) == b""


def test_trailers_are_no_headers(server: Running) -> None:
    body = b'{"inputs": "a cat"}'
    request = (
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\nX-Request-Timeout: none\r\n\r\n" % (len(body), body)
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("given", ["nan", "-1", "0", "soon"])
def test_a_timeout_that_is_none_is_refused(server: Running, given: str) -> None:
    answer = server.post("/embed", {"inputs": "a"}, headers={"X-Request-Timeout": given})
    assert answer.status_code == 422
    assert given in answer.json()["error"]


def test_the_key(embedding_folder: Any) -> None:
    with running(embedding_folder, api_key="geheimnis-ü") as server:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "geheimnis"},
            {"api-key": ""},
        ):
            answer = server.post("/v1/embeddings", {"input": "a"}, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        for path in ("/info", "/v1/models"):
            assert server.client.get(path).status_code == 401
        for path in ("/health", "/health/live", "/metrics", "/docs", "/openapi.json"):
            assert server.client.get(path).status_code == 200
        key = "geheimnis-ü".encode()
        for right in ({b"Authorization": b"Bearer " + key}, {b"api-key": key}):
            answer = server.post("/v1/embeddings", {"input": "a"}, headers=right)
            assert answer.status_code == 200
        document = server.client.get("/openapi.json").json()
        assert document["paths"]["/embed"]["post"]["security"] == [{"key": []}]
        assert "security" not in document["paths"]["/health"]["get"]


def test_request_ids_and_logs_without_texts(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        named = server.post(
            "/embed", {"inputs": "confidential words"}, headers={"X-Request-Id": "client-7"}
        )
        assert named.headers["x-request-id"] == "client-7"
        forged = server.post("/embed", {"inputs": 5}, headers={"X-Request-Id": 'a"}\t{"b'})
        assert re.fullmatch(r"[0-9a-f]{32}", forged.headers["x-request-id"])
        wait_for(lambda: sum(r.name == "core_server.access" for r in caplog.records) == 2)
    lines = [r.__dict__["fields"] for r in caplog.records if r.name == "core_server.access"]
    assert lines[0]["id"] == "client-7"
    assert lines[0]["route"] == "/embed"
    assert lines[0]["model"] == "tiny"
    assert lines[0]["inputs"] == 1
    assert lines[0]["tokens"] > 2
    assert lines[1]["status"] == 422
    assert "confidential" not in caplog.text + str([r.__dict__ for r in caplog.records])
