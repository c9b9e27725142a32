"""Work done ahead for a device that computes while its caller goes on: texts are tokenized while
others are computed, and batches are started before the results of those before them are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.engine.batching import Batches

#: The first part is this much smaller, so that the device starts early.
_FIRST_PART = 8


class TokenizedAhead:
    """Batches of many texts, a part of them at a time: the next parts are tokenized on threads of
    their own while the batches of this one are taken.

    Attributes:
        order: int64 [texts]: positions of the texts in the caller's list.

    Args:
        part: Texts in a part.
        prepare: Tokenizes the texts at these positions and cuts them into batches.
        at_once: Parts that are tokenized at the same time.
    """

    def __init__(
        self,
        order: NDArray[np.int64],
        part: int,
        prepare: Callable[[NDArray[np.int64]], Batches],
        at_once: int = 1,
    ) -> None:
        self.order = order
        first = max(part // _FIRST_PART, 1)
        self._parts = np.split(order, range(first, len(order), part))
        self._prepare, self._at_once = prepare, at_once

    def __len__(self) -> int:
        """How many batches there are at least: each part has one."""
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
        following: deque[Future[Batches]] = deque()
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="core-tokenize") as pool:
            try:
                for part in self._parts:
                    following.append(pool.submit(self._prepare, part))
                    if len(following) > self._at_once:
                        yield from following.popleft().result()
                while following:
                    yield from following.popleft().result()
            finally:
                for future in following:
                    future.cancel()


def read_behind(
    batches: Iterable[tuple[NDArray[np.int64], TokenBatch]],
    start: Callable[[NDArray[np.int64], TokenBatch], Callable[[], Any]],
    most: int,
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Positions and results of the batches in order, up to `most` batches started ahead of the one
    whose result is read."""
    waiting: deque[tuple[NDArray[np.int64], Callable[[], Any]]] = deque()
    for positions, batch in batches:
        waiting.append((positions, start(positions, batch)))
        if len(waiting) > most:
            first, read = waiting.popleft()
            yield first, read()
    for positions, read in waiting:
        yield positions, read()
