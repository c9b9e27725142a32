"""Interleaved measurement: in each round everything that is compared runs once.

A machine's speed drifts by half within minutes (other programs, heat, the clock of the
processor), so two runs one after the other compare the minutes, not the programs. Here each round
runs all of them, beginning with another one each time, and what is compared is the ratio within a
round. The spread says how far rounds disagree.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

#: Seconds between two tasks: threads of one runtime spin for a moment after its work, and the
#: next should not pay for it.
PAUSE = 0.05


@dataclass(frozen=True)
class Timing:
    """What one task took in each round.

    Attributes:
        seconds: One figure a round, in the order of the rounds.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds: the median of the rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """How far rounds disagree: their interquartile range as a share of the median."""
        return spread(self.seconds)

    def speed_over(self, other: Timing) -> Ratio:
        """How many times as fast as `other` this is, by the rounds both were in."""
        pairs = zip(other.seconds, self.seconds, strict=True)
        return Ratio(tuple(theirs / own for theirs, own in pairs))


@dataclass(frozen=True)
class Ratio:
    """A quotient of two timings, one a round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """How far rounds disagree: their interquartile range as a share of the median."""
        return spread(self.rounds)


def spread(values: Sequence[float]) -> float:
    """The interquartile range of some positive numbers as a share of their median; 0 for one."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def seconds(act: Callable[[], Any]) -> float:
    """How long a call takes, in seconds of the wall clock."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """The items, starting with another one: what comes first has no lasting advantage."""
    by %= max(len(items), 1)
    return [*items[by:], *items[:by]]


class Budget:
    """Seconds that a part of a run may take, counted from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until it is used up; negative afterwards."""
        return self._end - time.monotonic()

    def part(self, share: float) -> Budget:
        """A budget of a share of what is left."""
        return Budget(max(self.left, 0.0) * share)

    def rounds(self, most: int, least: int) -> Iterator[int]:
        """Count rounds: `least` in any case, then up to `most` while there is time for another."""
        start = time.monotonic()
        for number in range(most):
            took = (time.monotonic() - start) / max(number, 1)
            if number >= least and took > self.left:
                return
            yield number


def interleaved(
    acts: Mapping[Key, Callable[[int], Any]],
    *,
    rounds: int,
    least: int | None = None,
    warm_up: int = 1,
    budget: Budget | None = None,
) -> dict[Key, Timing]:
    """Time each act once a round, every round in another order.

    Args:
        acts: Name to what is timed; it is called with the number of the round, so that all can do
            the same work in a round and other work in the next. The first `warm_up` rounds are
            numbered like the others and not counted.
        rounds: Rounds that count, at most.
        least: Rounds that count even after the budget is used up; None for `rounds`.
        warm_up: Rounds that do not count.
        budget: When to stop early; None for never.
    """
    found: dict[Key, list[float]] = {name: [] for name in acts}
    for turn in range(warm_up):
        for name in rotated(list(acts), turn):
            acts[name](turn)
    counted = (budget or Budget(float("inf"))).rounds(rounds, rounds if least is None else least)
    for turn in counted:
        number = turn + warm_up
        for name in rotated(list(acts), number):
            time.sleep(PAUSE)
            found[name].append(seconds(lambda act=acts[name], n=number: act(n)))  # type: ignore[misc]
    return {name: Timing(tuple(taken)) for name, taken in found.items()}
