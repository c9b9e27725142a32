"""A request's inputs on their way through the queue, and what came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """What a model is asked; inputs with equal calls are computed together.

    Attributes:
        task: `"dense"`, `"tokens"` (an embedding for each token), `"sparse"`, `"multi_vector"` or
            `"scores"`.
        prompt: In front of every input, already resolved from its name.
        role: `"query"` or `"document"`, for models that tell them apart by more than a prompt; ""
            for neither.
    """

    task: str
    prompt: str = ""
    role: str = ""


@dataclass(eq=False, slots=True)
class Job:
    """One request's inputs.

    Attributes:
        costs: About how many tokens each input has, as far as the model reads them.
        tokens: How many those that were computed have.
        results: For each input what the model gave: float32 [dimension], [tokens, hidden] or
            [labels], or one row of `core.SparseEmbeddings`.
        future: Done when every input is; its result is None.
    """

    client: str
    call: Call
    inputs: Sequence[Any]
    costs: Sequence[int]
    future: asyncio.Future[None]
    results: list[Any] = field(default_factory=list)
    tokens: int = 0
    cancelled: bool = False
    #: How often the backend died on it.
    deaths: int = 0
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    _next: int = 0
    _missing: int = 0

    def __post_init__(self) -> None:
        self.results = [None] * len(self.inputs)
        self._missing = len(self.inputs)

    @property
    def next_cost(self) -> int | None:
        if self.cancelled or self._next >= len(self.costs):
            return None
        return self.costs[self._next]

    def take(self) -> int:
        position = self._next
        self._next += 1
        return position

    @property
    def waiting(self) -> tuple[int, int]:
        """(inputs, tokens) that no batch has taken yet."""
        rest = self.costs[self._next :]
        return len(rest), sum(rest)

    def fill(self, position: int, result: Any) -> bool:
        """Keep a result; whether it was the last that was missing."""
        self.results[position] = result
        self._missing -= 1
        return self._missing == 0

    def finish(self, failure: Exception | None = None) -> None:
        """Wake who waits. Only on the event loop of the future."""
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(failure)
