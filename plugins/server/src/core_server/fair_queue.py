"""Who comes next: deficit round robin over clients, and over each client's requests.

Every client has a turn of as many tokens as the longest text may have, whatever it has waiting, and
within a client's turn every request has one. So one request with thousands of texts delays another
with a single text by no more than a turn, and nobody waits for ever (Shreedhar and Varghese, 1995,
"Efficient fair queuing using deficit round robin").

Not safe for threads: the dispatcher holds its lock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """A request with inputs that wait."""

    @property
    def client(self) -> str:
        """Whose it is."""
        ...

    @property
    def next_cost(self) -> int | None:
        """Tokens of its next input; None where none is left or nobody wants them any more."""
        ...

    def take(self) -> int:
        """The position of its next input, which no longer waits."""
        ...


J = TypeVar("J", bound=Queued)


class _Turns(Generic[J]):
    """One client's requests."""

    def __init__(self) -> None:
        self.requests: deque[J] = deque()
        self.left = 0  # tokens of the client's turn
        self.request_left = 0  # tokens of the first request's turn


class FairQueue(Generic[J]):
    """Requests with inputs that wait, in the order in which clients take turns.

    Args:
        turn: Tokens of a turn.
    """

    def __init__(self, turn: int) -> None:
        self._turn = max(turn, 1)
        self._clients: dict[str, _Turns[J]] = {}
        self._order: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._order)

    def put(self, request: J) -> None:
        """Let a request wait behind its client's others."""
        turns = self._clients.get(request.client)
        if turns is None:
            turns = self._clients[request.client] = _Turns()
            self._order.append(request.client)
        turns.requests.append(request)

    def take(self, budget: int) -> list[tuple[J, int]]:
        """The next inputs, of about `budget` tokens and at least one: (request, position)."""
        taken: list[tuple[J, int]] = []
        while self._order and (budget > 0 or not taken):
            turns = self._clients[self._order[0]]
            request = turns.requests[0]
            cost = request.next_cost
            if cost is None:
                self._next_request(turns, done=True)
                continue
            if turns.left <= 0:
                turns.left = self._turn
            if turns.request_left <= 0:
                turns.request_left = self._turn
            if taken and cost > budget:
                break
            taken.append((request, request.take()))
            budget -= cost
            turns.left -= max(cost, 1)
            turns.request_left -= max(cost, 1)
            if request.next_cost is None:
                self._next_request(turns, done=True)
            elif turns.request_left <= 0:
                self._next_request(turns, done=False)
            if turns.requests and turns.left <= 0:
                self._order.rotate(-1)
        return taken

    def _next_request(self, turns: _Turns[J], *, done: bool) -> None:
        request = turns.requests.popleft()
        turns.request_left = 0
        if not done:
            turns.requests.append(request)
        if not turns.requests:
            del self._clients[self._order.popleft()]
