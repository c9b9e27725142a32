"""One process for all: threads that share a model, and what calls leave behind."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import core
from core.testing.subject import TEXTS, Subject
from core.testing.traces import Traces, watched

_THREADS = 8
#: How often a thread stops at one instruction, and for how many seconds. None runs ahead of all:
#: it would finish what the others should see half made.
_STOPS, _PAUSES = 5, ((1e-3,), *[(0.0, 2e-5, 2e-5, 1e-3)] * 7)


class SharingContract(Subject):
    """A backend's models live in programs of which they are a part."""

    def test_many_threads_share_a_model(self) -> None:
        """Eight threads calling at once, the first call included, get what one gets."""
        calls = [
            (
                [f"{text} {n}" for text in TEXTS[n % 3 : 1 + n % 5]],
                {"prompt": "query: "[: n % 2 * 7]},
            )
            for n in range(5 * _THREADS)
        ]
        expected = [self.shared().encode(texts, **options) for texts, options in calls]
        with self.load() as model:

            def encode(call: tuple[list[str], dict[str, str]]) -> Any:
                return model.encode(call[0], **call[1])

            start = threading.Barrier(_THREADS).wait
            # Between any two instructions of the backend another thread may run: now all do.
            with (
                _interleaved(self.packages()),
                ThreadPoolExecutor(_THREADS, initializer=start) as pool,
            ):
                first = list(pool.map(encode, calls))
            with ThreadPoolExecutor(_THREADS) as pool:
                second = list(pool.map(encode, calls))
        for found in (first, second):
            for rows, right in zip(found, expected, strict=True):
                self.assert_close(rows, right, "with other threads at the same time")

    def test_it_leaves_the_process_as_it_was(self, tmp_path: Path) -> None:
        """No call changes the working directory, the environment, standard output, the global
        state of random numbers, or settings that the whole process shares."""
        self.shared()
        assert self._left is not None
        self._left.before.restore()  # what other tests' calls have left would hide the same again
        found = [f"the first load and encode: {line}" for line in self._left.grave]
        try:
            for what, traces in self._watched_calls(tmp_path):
                found += [f"{what}: {line}" for line in (*traces.grave, *traces.other)]
        finally:
            os.environ.update(self._left.added)
        assert not found, "\n".join(found)

    def _watched_calls(self, folder: Path) -> Iterator[tuple[str, Traces]]:
        with watched(self.variables) as traces:
            model = self.load()
        yield "load", traces
        with watched(self.variables) as traces:
            model.encode(list(TEXTS))
            list(model.encode_stream(iter(TEXTS), window=4))
        yield "encode", traces
        if "save" in core.hooks(self.backend).implemented:
            with watched(self.variables) as traces:
                model.save(folder / "saved")
            yield "save", traces
        with watched(self.variables) as traces:
            pickle.dumps(model)
            model.close()
        yield "close", traces


@contextmanager
def _interleaved(packages: set[str]) -> Iterator[None]:
    """Threads started meanwhile stop at every instruction of these packages, a few times each."""
    state, numbers = threading.local(), itertools.count()
    together = threading.Barrier(_THREADS)

    def begin() -> None:
        """The first time a thread is in the backend's code."""
        number = next(numbers)
        state.seen, state.random = Counter(), random.Random(number)
        state.pauses = _PAUSES[number % len(_PAUSES)]
        if number < _THREADS:  # those that call; more may be started by the backend
            with suppress(threading.BrokenBarrierError):
                together.wait(timeout=10)

    def at_instruction(frame: FrameType, event: str, argument: Any) -> Any:
        place = (frame.f_code, frame.f_lasti)
        if state.seen[place] < _STOPS:
            state.seen[place] += 1
            time.sleep(state.random.choice(state.pauses))
        return at_instruction

    def at_call(frame: FrameType, event: str, argument: Any) -> Any:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in packages:
            return None
        if not hasattr(state, "seen"):
            begin()
        frame.f_trace_opcodes = True
        return at_instruction

    interval, trace = sys.getswitchinterval(), threading.gettrace()
    sys.setswitchinterval(1e-5)
    threading.settrace(at_call)
    try:
        yield
    finally:
        threading.settrace(trace)
        sys.setswitchinterval(interval)
