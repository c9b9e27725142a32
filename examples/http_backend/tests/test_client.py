"""Refusals, lost connections and time-outs, from a server that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from http_backend import client

import core


class Misbehaving(ThreadingHTTPServer):
    """Does what `script` says, one entry a request; afterwards it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append({**body, "key": self.headers.get("Authorization")})
            step = self.server.script.pop(0) if self.server.script else None
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self._act(step, body)
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def _act(self, step: Any, body: dict[str, Any]) -> None:
        if step == "hang up":
            self.close_connection = True
            return
        if step == "sleep":
            time.sleep(1.5)
        if isinstance(step, int):
            self._answer(step, {"error": {"message": f"told to say {step}"}})
        elif isinstance(step, dict):
            self._answer(200, step)
        else:
            time.sleep(0.02)
            data = [
                {"index": i, "embedding": [len(text), 1.0]} for i, text in enumerate(body["input"])
            ]
            self._answer(200, {"data": data[::-1]})

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    with Misbehaving() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load(server: Misbehaving, **options: Any) -> core.EmbeddingModel:
    return core.load("m", backend="http", model_kwargs={"base_url": server.address, **options})


def test_texts_go_in_batches_several_at_once_and_each_once(misbehaving: Misbehaving) -> None:
    with load(misbehaving, batch_size=4, workers=3, api_key="k") as model:
        texts = ["x" * (i % 30) for i in range(60)]
        rows = model.encode(texts)
        assert rows[:, 0].tolist() == [max(1, i % 30) for i in range(60)]
        assert sorted(len(r["input"]) for r in misbehaving.requests) == [2, *[4] * 7]
        assert 1 < misbehaving.most_at_once <= 3
        assert {r["key"] for r in misbehaving.requests} == {"Bearer k"}
        misbehaving.requests.clear()
        model.encode([f"{i}" for i in range(10)], batch_size=10)
        assert len(misbehaving.requests) == 1


@pytest.mark.parametrize("script", [[429], [503, 500], ["hang up"], [429, "hang up", 502]], ids=str)
def test_what_may_pass_is_tried_again(misbehaving: Misbehaving, script: list[Any]) -> None:
    with load(misbehaving) as model:
        misbehaving.script = list(script)
        assert model.encode(["four"]).tolist() == [[4, 1]]
        assert len(misbehaving.requests) == len(script) + 1


def test_a_slow_answer_is_given_up_and_asked_for_again(misbehaving: Misbehaving) -> None:
    with load(misbehaving, timeout=0.5) as model:
        misbehaving.script = ["sleep"]
        assert model.encode(["four"]).tolist() == [[4, 1]]
        misbehaving.script = ["sleep"] * 2
    with (
        load(misbehaving, timeout=0.2, retries=1) as model,
        pytest.raises(core.PluginError, match=r"after 2 attempts: no answer within 0.2 s"),
    ):
        model.encode("text")


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ([401], core.OptionError, "refuses the key .*told to say 401.*OPENAI_API_KEY"),
        ([404], core.ModelNotFound, "has no model 'm'"),
        ([400], core.PluginError, "answered 400 after 1 attempt: told to say 400"),
        ([500] * 3, core.PluginError, "answered 500 after 3 attempts"),
        ([{"data": []}], core.PluginError, "0 embeddings for 1 texts"),
        ([{"hello": 1}], core.PluginError, "something else than embeddings"),
        ([{"data": [{"index": 0, "embedding": "!"}]}], core.PluginError, "something else than"),
        ([{"data": [{"index": 0, "embedding": [1, None]}]}], core.PluginError, "ings|NaN"),
    ],
)
def test_what_does_not_pass_is_an_error(
    misbehaving: Misbehaving, script: list[Any], error: type[Exception], message: str
) -> None:
    with load(misbehaving, retries=2) as model:
        misbehaving.script = list(script)
        with pytest.raises(error, match=message):
            model.encode("text")
        assert np.array_equal(model.encode("four"), [4, 1])


def test_no_server_and_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(core.OptionError, match="OPENAI_BASE_URL"):
        core.load("m", backend="http")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with (
        core.load("m", backend="http", model_kwargs={"retries": 1}) as model,
        pytest.raises(core.PluginError, match=r"reached after 2 attempts.*Check base_url"),
    ):
        model.encode("text")
    for wrong in ({"base_url": "localhost"}, {"timeout": 0}, {"batch_size": 0}, {"workers": True}):
        with pytest.raises(core.OptionError, match=next(iter(wrong))):
            core.load("m", backend="http", model_kwargs=wrong)
