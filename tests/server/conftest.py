"""Servers on a loopback port, with tiny models, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import core
from core.plugin.plugin import PLUGIN_GROUP
from core.plugin.registry import registry
from core.testing import tiny_model, tiny_multi_vector, tiny_reranker, tiny_sparse
from core_server.metrics import Metrics
from core_server.models import load_models
from core_server.service import Service
from core_server.serving import Server, address_of, bind
from core_server.settings import Settings

#: Whatever hangs, hangs no longer.
PATIENCE = 20.0
#: Servers here speak HTTP. Without it every client reads the certificates of all authorities.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Running:
    """A server that runs.

    Attributes:
        client: Sends to it.
    """

    service: Service
    client: httpx.Client
    server: Server
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.client.base_url.port or 0)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.client.post(path, json=body, **more)

    def metric(self, name: str, **labels: str) -> float:
        value = self.service.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"there is no metric {name} of {labels}"
        return value

    def end(self) -> None:
        """As a signal does."""
        self.loop.call_soon_threadsafe(self.server.end)


@contextmanager
def running(*models: Path | str, backend: str = "torch", **settings: Any) -> Iterator[Running]:
    """A server with these models."""
    given = Settings(port=0, **settings)
    metrics = Metrics()
    loaded = load_models([*map(str, models)], given, metrics, backend=backend)
    service = Service(given, loaded, metrics)
    bound = bind(given.host, 0)
    server = Server(service)
    started: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        started.append(asyncio.get_running_loop())
        await server.serve([bound])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        with httpx.Client(base_url=address_of(bound), verify=NO_TLS, timeout=PATIENCE) as client:
            wait_for(lambda: server.started)
            yield Running(service, client, server, started[0], thread)
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            started[0].call_soon_threadsafe(lambda: setattr(server, "should_exit", True))
        thread.join(PATIENCE)
        bound.close()
        service.close()
        assert not thread.is_alive()


def wait_for(true: Callable[[], bool]) -> None:
    """Until it is so, or for too long."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if true():
            return
        pause.wait(0.01)
    pytest.fail("it never became true")


@pytest.fixture(scope="session")
def embedding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedding model, which does not normalize."""
    return tiny_model(tmp_path_factory.mktemp("server") / "tiny")


@pytest.fixture(scope="session")
def reranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reranker(tmp_path_factory.mktemp("server") / "tiny-reranker")


@pytest.fixture(scope="session")
def server(
    embedding_folder: Path, reranker_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A model of each kind; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("server-kinds")
    more = [tiny_sparse(folder / "tiny-sparse"), tiny_multi_vector(folder / "tiny-multi-vector")]
    with running(embedding_folder, reranker_folder, *more) as started:
        yield started


@pytest.fixture(scope="session")
def model(embedding_folder: Path) -> Iterator[core.EmbeddingModel]:
    """The same embedding model in this process."""
    with core.load(embedding_folder, backend="torch") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def reranker(reranker_folder: Path) -> Iterator[core.Reranker]:
    with core.load_reranker(reranker_folder, backend="torch") as loaded:
        yield loaded


@dataclass
class Gate:
    """A plugin around every backend: batches wait before it until it is open.

    Attributes:
        batches: What was computed, in order.
    """

    opened: threading.Event = field(default_factory=threading.Event)
    batches: list[list[Any]] = field(default_factory=list)
    fails_on: str | None = None

    @core.hookimpl(wrapper=True)
    def encode(self, model: Any, texts: Any) -> Generator[None, Any, Any]:
        self.batches.append(list(texts))
        assert self.opened.wait(PATIENCE)
        if self.fails_on in texts:
            raise ValueError("it fails on purpose")
        return (yield)


GatedServer = Callable[..., AbstractContextManager[tuple[Running, Gate]]]


@pytest.fixture
def gated(embedding_folder: Path) -> GatedServer:
    """`with gated(settings=...) as (server, gate)`: nothing is computed until the gate is open."""

    @contextmanager
    def start(*models: Path, **settings: Any) -> Iterator[tuple[Running, Gate]]:
        gate = Gate()
        core.register_plugin("gate", gate)
        try:
            with running(*(models or (embedding_folder,)), **settings) as started:
                try:
                    yield started, gate
                finally:
                    gate.opened.set()
        finally:
            registry.unregister(PLUGIN_GROUP, "gate")

    return start


@dataclass
class Sending:
    """A request sent by a thread."""

    thread: threading.Thread
    answers: list[httpx.Response]

    def answer(self) -> httpx.Response:
        self.thread.join(PATIENCE)
        assert self.answers, "there was no answer"
        return self.answers[0]


def send(server: Running, path: str, body: Any, **more: Any) -> Sending:
    """Post without waiting for the answer, on a connection of its own."""
    answers: list[httpx.Response] = []

    def post() -> None:
        address = server.client.base_url
        with httpx.Client(base_url=address, verify=NO_TLS, timeout=PATIENCE) as client:
            answers.append(client.post(path, json=body, **more))

    thread = threading.Thread(target=post)
    thread.start()
    return Sending(thread, answers)
