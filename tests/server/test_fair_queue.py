"""Whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass

from core_server.fair_queue import FairQueue


@dataclass(eq=False)
class Request:
    client: str
    costs: list[int]
    taken: int = 0
    cancelled: bool = False

    @property
    def next_cost(self) -> int | None:
        done = self.cancelled or self.taken == len(self.costs)
        return None if done else self.costs[self.taken]

    def take(self) -> int:
        self.taken += 1
        return self.taken - 1


def test_a_batch_has_about_as_many_tokens_as_it_may() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    request = Request("a", [30] * 10)
    queue.put(request)
    assert queue.take(100) == [(request, 0), (request, 1), (request, 2)]
    assert queue.take(1) == [(request, 3)]  # at least one, whatever it costs
    assert [position for _, position in queue.take(1_000)] == [4, 5, 6, 7, 8, 9]
    assert not queue
    assert queue.take(100) == []


def test_a_short_text_waits_for_one_turn_of_a_request_with_thousands() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    long, short = Request("a", [50] * 1_000), Request("a", [5])
    queue.put(long)
    queue.take(60)
    queue.put(short)
    first = queue.take(110)
    assert (short, 0) in first
    assert sum(request is long for request, _ in first) <= 2


def test_clients_get_equal_tokens_however_many_requests_they_have() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    many = [Request("many", [20] * 5) for _ in range(50)]
    few = [Request("few", [20] * 5) for _ in range(10)]
    for request in (*many, *few):
        queue.put(request)
    taken = queue.take(2_000)
    shares = [sum(request.client == name for request, _ in taken) for name in ("many", "few")]
    assert shares == [50, 50]


def test_clients_with_long_texts_get_no_more_than_others() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    queue.put(Request("long", [100] * 100))
    queue.put(Request("short", [10] * 1_000))
    taken = queue.take(2_000)
    tokens = {"long": 0, "short": 0}
    for request, position in taken:
        tokens[request.client] += request.costs[position]
    assert tokens == {"long": 1_000, "short": 1_000}


def test_nobody_waits_for_ever_while_others_come() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    bulk = Request("a", [100] * 10)
    queue.put(bulk)
    for _ in range(40):
        for _ in range(4):
            queue.put(Request("a", [25]))
        queue.take(200)
    assert bulk.taken == 10


def test_what_nobody_wants_any_more_is_not_taken() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    gone, kept = Request("a", [10] * 100), Request("b", [10])
    queue.put(gone)
    queue.put(kept)
    gone.cancelled = True
    assert queue.take(1_000) == [(kept, 0)]
    assert not queue


def test_texts_without_tokens_are_taken_too() -> None:
    queue: FairQueue[Request] = FairQueue(100)
    request = Request("a", [0] * 200)
    queue.put(request)
    assert len(queue.take(100)) == 200
