"""Whatever is sent, the server answers, and goes on."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.server import fuzzing
from tests.server.conftest import Running, wait_for


def test_whatever_is_sent_is_answered(server: Running) -> None:
    found: set[int] = set()

    @seed(20_261_127)
    @settings(
        max_examples=150,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(fuzzing.REQUESTS)
    def send(request: tuple[str, bytes]) -> None:
        path, body = request
        answer = server.client.post(path, content=body)
        fuzzing.check(answer)
        found.add(answer.status_code)

    send()
    assert {200, 400, 422} <= found


def test_connections_that_break_off_leave_nothing_behind(server: Running) -> None:
    draws = random.Random(20_261_127)
    for _ in range(60):
        fuzzing.broken_connection(server.port, draws)
    wait_for(lambda: server.service.in_flight == 0)
    assert server.post("/embed", {"inputs": "a cat"}).status_code == 200
    assert server.client.get("/health").status_code == 200
