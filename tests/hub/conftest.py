"""A fresh loopback Hub and an empty Hub cache for every test."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.loopback import TOKEN, LoopbackHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """`$HF_ENDPOINT` points to it, `$HF_TOKEN` may write, the cache is empty."""
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        # Before 1.0 the client reads an answer's addresses with what it saw when it was imported.
        address = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        # Xet is a second protocol with servers of its own; uploads take LFS without it.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield running


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client waits seconds between its attempts; here it makes them at once.

    What it would have waited is in the list.
    """
    asked: list[float] = []
    sleep = time.sleep

    def short(seconds: float) -> None:
        asked.append(seconds)
        sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", short)
    return asked


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits of every socket pass fifty times as fast, whoever set them."""
    settimeout = socket.socket.settimeout

    def short(self: socket.socket, seconds: float | None) -> None:
        settimeout(self, None if seconds is None else seconds / 50)

    monkeypatch.setattr(socket.socket, "settimeout", short)


def folder_files(folder: Path) -> dict[str, bytes]:
    """Relative name to content of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
