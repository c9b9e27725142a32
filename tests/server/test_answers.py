"""Long answers are written in pieces, so that nobody waits for the whole of one."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from typing import Any

import numpy as np
import pytest
from starlette.responses import StreamingResponse

import core
from core_server.answers import json_list
from tests.server.conftest import PATIENCE, Running

TEXTS = [f"text {i} of many" for i in range(1_100)]


@pytest.fixture(scope="module")
def expected(model: core.EmbeddingModel) -> Any:
    return model.encode(TEXTS, normalize_embeddings=True)


def test_long_answers_hold_what_short_ones_do(server: Running, expected: Any) -> None:
    answer = server.post("/embed", {"inputs": TEXTS})
    assert answer.headers["content-type"] == "application/json"
    np.testing.assert_allclose(answer.json(), expected, atol=1e-5)
    body = {"input": TEXTS, "encoding_format": "base64"}
    found = server.post("/v1/embeddings", body).json()
    assert set(found) == {"object", "data", "model", "usage"}
    assert [one["index"] for one in found["data"]] == list(range(len(TEXTS)))
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in found["data"]]
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_tokens_of_many_texts_are_written_in_pieces(server: Running) -> None:
    answer = server.post("/tokenize", {"inputs": ["a small cat " * 1_000] * 12})
    assert answer.headers["transfer-encoding"] == "chunked"
    (alone,) = server.post("/tokenize", {"inputs": "a small cat " * 1_000}).json()
    assert len(alone) > 1_000
    assert answer.json() == [alone] * 12


def test_a_client_that_leaves_in_the_middle_of_an_answer_disturbs_nobody(server: Running) -> None:
    body = json.dumps({"inputs": TEXTS}).encode()
    head = f"POST /embed_all HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as leaving:
        leaving.sendall(head + body)
        assert leaving.recv(100).startswith(b"HTTP/1.1 200")
    assert server.post("/embed", {"inputs": "a cat"}).status_code == 200
    assert server.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("count", [1, 10, 50])
def test_others_have_a_turn_between_the_pieces_of_a_long_answer(count: int) -> None:
    rows = np.arange(count * 10_000, dtype=np.float32).reshape(count, 10_000)
    events: list[str] = []

    async def others() -> None:
        while True:
            events.append("turn")
            await asyncio.sleep(0)

    async def written() -> bytes:
        other = asyncio.create_task(others())
        answer = json_list(rows, [row.size for row in rows], lambda _, row: row)
        if not isinstance(answer, StreamingResponse):
            return bytes(answer.body)
        parts = []
        async for part in answer.body_iterator:
            assert isinstance(part, bytes)
            events.append("part")
            parts.append(part)
        other.cancel()
        return b"".join(parts)

    data = asyncio.run(written())
    assert np.array_equal(json.loads(data), rows)
    # Three rows at a time, the brackets, and a turn after each piece.
    assert events.count("part") == (0 if count == 1 else -(-count // 3) + 2)
    assert events.count("turn") >= events.count("part") - 2
