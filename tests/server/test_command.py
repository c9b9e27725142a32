"""`core serve` as a user starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import core
from core.cli import main
from tests.server.conftest import NO_TLS, PATIENCE

#: The text of a request that takes the server some time.
_LONG = "a long text of many words " * 30


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, list[dict[str, Any]]]]:
    """(process, address, lines of its log) of a server that answers."""
    # The tests themselves may be started by nohup, which has it ignored.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "serve", *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGHUP, before)
    lines: list[dict[str, Any]] = []
    ready = threading.Event()
    assert process.stderr is not None
    errors = process.stderr

    def read() -> None:
        for line in errors:
            lines.append(json.loads(line))
            if lines[-1]["message"].startswith("serving at"):
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(6 * PATIENCE)
        yield process, lines[-1]["message"].removeprefix("serving at "), lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        errors.close()


@pytest.mark.slow
def test_a_signal_ends_it_when_every_accepted_request_is_answered(
    embedding_folder: Path, model: core.EmbeddingModel
) -> None:
    arguments = ["--backend", "onnx", "--max-batch-tokens", "128"]
    with served(f"tiny={embedding_folder}", *arguments) as (process, address, lines):
        sending = threading.Event()

        def ask(number: int) -> list[int]:
            """Until the server has gone: the statuses of what it accepted."""
            statuses: list[int] = []
            with httpx.Client(base_url=address, verify=NO_TLS, timeout=PATIENCE) as client:
                while True:
                    body = {"inputs": [f"{number} {_LONG}"] * 3, "normalize": False}
                    try:
                        answer = client.post("/embed", json=body)
                    except httpx.ConnectError:
                        return statuses  # it accepts no more
                    statuses.append(answer.status_code)
                    sending.set()
                    if answer.headers.get("connection") == "close":
                        return statuses

        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(ask, number) for number in range(16)]
            assert sending.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            statuses = [status for one in asked for status in one.result()]
        assert set(statuses) == {200}
        assert len(statuses) >= 16
        assert process.wait(PATIENCE) == 0
        assert any(line["message"].startswith("ending") for line in lines)
        assert _LONG not in str(lines)


@pytest.mark.slow
def test_the_key_of_the_environment(
    embedding_folder: Path, model: core.EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORE_SERVER_API_KEY", "secret")
    with served(str(embedding_folder), "--backend", "onnx") as (process, address, _):
        body = {"inputs": "a cat", "normalize": False}
        assert httpx.post(f"{address}/embed", json=body, verify=NO_TLS).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        answer = httpx.post(f"{address}/embed", json=body, headers=headers, verify=NO_TLS)
        np.testing.assert_allclose(answer.json(), [model.encode("a cat")], atol=1e-5)
        process.send_signal(signal.SIGHUP)  # its terminal is closed
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("key", ["", " key", "key\n"])
def test_a_key_that_nobody_could_send_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty one would let everybody in: the variable that it came from may be misspelled."""
    monkeypatch.setenv("CORE_SERVER_API_KEY", key)
    assert main(["serve", "model", "--port", "0", "--local-files-only"]) == 2
    assert "api_key" in capsys.readouterr().err.replace("-", "_")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/at/all", "--port", "0"], "nowhere/at/all"),
        (["model", "--port", "70000"], "port"),
        (["model", "--workers", "-1"], "workers"),
        (["model", "--timeout", "0"], "timeout"),
        (["model", "--timeout", "inf"], "timeout"),
        (["model", "--api-key", ""], "is empty"),
        (["model", "--api-key", "key\n"], "line break"),
        (["\udcffn=model", "--port", "0"], "cannot be called '\\udcffn'"),
        (["model", "--host", "256.256.256.256"], "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments, "--backend", "torch", "--local-files-only"]) in (1, 2)
    assert words in capsys.readouterr().err
