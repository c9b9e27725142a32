"""Requests leave no work to the garbage collector, for which every other request would wait."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from core_server import collector
from core_server.exchange import Exchange
from tests.server.conftest import Running

_REQUESTS = 20


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is collected but by hand, and nothing is set aside afterwards."""
    before = gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/embed", {"inputs": "a cat"}, 200),
        ("/v1/embeddings", {"input": ["a cat", "a dog"]}, 200),
        ("/embed", {"inputs": []}, 422),
        ("/nowhere", {}, 404),
    ],
)
def test_what_a_request_held_is_free_when_it_is_answered(
    server: Running, uncollected: None, path: str, body: dict[str, object], status: int
) -> None:
    gc.collect()
    for _ in range(_REQUESTS):
        assert server.post(path, body).status_code == status
    left = [one for one in gc.get_objects() if type(one) is Exchange]
    assert len(left) <= 1  # a connection knows its last request


class _Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_set_aside_is_collected_when_it_is_renewed(uncollected: None) -> None:
    circle = _Circle()
    lives = weakref.ref(circle)
    collector.set_aside()
    del circle
    gc.collect()
    assert lives() is not None
    collector.renew()
    assert lives() is None
    assert gc.get_freeze_count() > 0


def test_a_process_that_set_nothing_aside_stays_as_it_is(uncollected: None) -> None:
    before = gc.get_threshold()
    collector.renew()
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
