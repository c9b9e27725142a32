"""Rounds within a time budget: in each, everything that is compared once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

# Threads of one runtime spin for a moment after its work; the next should not pay for it.
_PAUSE = 0.05

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def say(*words: Any) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """The items, starting with another one: what comes first has no lasting advantage."""
    by %= max(len(items), 1)
    return [*items[by:], *items[:by]]


class Budget:
    """Seconds that a part of a run may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def rounds(self, most: int, least: int) -> Iterator[int]:
        """Count rounds: `least` in any case, then up to `most` while there is time for another."""
        start = time.monotonic()
        for number in range(most):
            took = (time.monotonic() - start) / max(number, 1)
            if number >= least and took > self.left:
                return
            yield number


def seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def interleaved(
    acts: Mapping[Key, Callable[[], Any]], budget: Budget, *, most: int, least: int
) -> dict[Key, list[float]]:
    """Seconds of each act in each round, every round in another order."""
    found: dict[Key, list[float]] = {name: [] for name in acts}
    for turn in budget.rounds(most, least):
        for name in rotated(list(acts), turn):
            time.sleep(_PAUSE)
            found[name].append(seconds(acts[name]))
    return found
