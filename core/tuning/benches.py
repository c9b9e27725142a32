"""The processes of all variants, as many at once as fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from core.tuning.process import Bench, open_bench

#: Of the memory that is free at the start, the share that loaded variants may take together.
_SHARE = 0.5


class Benches:
    """Loaded variants by name. The one used least recently goes when another needs its memory."""

    def __init__(self) -> None:
        self._open: dict[str, Bench] = {}
        self._sizes: dict[str, int] = {}
        self._limit = _free_memory() * _SHARE

    def get(
        self, name: str, backend: str, load: Callable[[Bench], Any]
    ) -> tuple[Bench, tuple[float, Any] | None]:
        """A variant's process, started and loaded unless it runs.

        Args:
            name: Of the variant.
            backend: Whose it is.
            load: Loads it, and returns what is to be known of it.

        Returns:
            The process; and, if it was started, the seconds from its start to the end of `load`
            and what that returned.
        """
        bench = self._open.pop(name, None)
        told = None
        if bench is None:
            self._make_room(name)
            bench = open_bench(backend)
            try:
                facts = load(bench)
                told = perf_counter() - bench.started, facts
                self._sizes[name] = bench.ask("memory")
            except BaseException:
                bench.close()
                raise
        self._open[name] = bench  # the last used one comes last
        return bench, told

    def size(self, name: str, bench: Bench) -> int:
        """Bytes of memory that a variant's process takes now."""
        self._sizes[name] = bench.ask("memory")
        return self._sizes[name]

    def close(self, name: str) -> None:
        """End a variant's process, if it runs."""
        bench = self._open.pop(name, None)
        if bench is not None:
            bench.close()

    def close_all(self) -> None:
        """End every process."""
        for name in list(self._open):
            self.close(name)

    def _make_room(self, name: str) -> None:
        expected = self._sizes.get(name) or max(self._sizes.values(), default=0)
        while self._open and self._used() + expected > self._limit:
            self.close(next(iter(self._open)))

    def _used(self) -> int:
        return sum(self._sizes.get(name, 0) for name in self._open)


def _free_memory() -> float:
    """Bytes that processes may still take; infinite where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1_024.0
    except (OSError, ValueError, IndexError):
        pass
    return math.inf
