"""A model's life: loaded in any thread, used through errors, closed, or open to the end."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import core
from core.testing.subject import TEXTS, Subject

#: How many models live and end, one after the other.
_LIVES = 4
#: What ends by itself after `close` is waited for so long; a call that has not returned after
#: the second never will.
_SECONDS, _FOR_EVER = 5.0, 60.0
#: At which of the backend's functions an encode fails, counted from the hook.
_FAILURES = (1, 2, 3, 5, 8)

_ENDING = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    model, texts = pickle.load(file)
np.save(sys.argv[2], model.encode(texts))
"""


class LifeContract(Subject):
    """Whatever a program does with a model, it can go on, and end."""

    def test_any_thread_may_load_it(self) -> None:
        """Servers load, use and close models in threads of their own."""

        def life() -> Any:
            with self.load() as model:
                return model.encode(list(TEXTS))

        expected = self.rows()
        with ThreadPoolExecutor(1) as pool:
            self.assert_close(pool.submit(life).result(), expected, "in a thread of its own")

    def test_a_closed_model_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With every model that is loaded and closed, a process has no more threads, open files,
        child processes and temporary files than before, and nothing keeps its memory."""
        self.shared()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        self._live()  # whatever the process has once, for all models
        before = _held(tmp_path)
        made = [one for _ in range(_LIVES) for one in self._live()]
        end = time.monotonic() + _SECONDS
        if _grown(before, tmp_path):
            gc.collect()  # which takes long in a process with many objects
        while (grown := _grown(before, tmp_path)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not grown, f"{_LIVES} models that were closed have left {', '.join(grown)}"
        if _kept(made):
            gc.collect()
        assert not (kept := _kept(made)), f"something keeps the {kept} of every closed model"

    def _live(self) -> list[tuple[str, weakref.ref[Any]]]:
        """Load, use and close a model; references to it and its runtime."""
        with self.load() as model:
            model.encode(list(TEXTS))
            found: list[tuple[str, weakref.ref[Any]]] = [("model", weakref.ref(model))]
            if model.runtime is not self.shared().runtime:
                with suppress(TypeError):  # it cannot be referred to
                    found.append(("runtime", weakref.ref(model.runtime)))
        return found

    def test_an_error_inside_it_is_raised_and_no_more(self) -> None:
        """Where a function of the backend fails, the caller hears of it, and the next call is as
        if nothing had been."""
        expected = self.rows()
        with self.load() as model:

            def encode() -> Any:
                return model.encode(list(TEXTS))

            encode()
            for place in _FAILURES:
                with _failing(self.packages(), place):
                    try:
                        rows = encode()
                    except core.CoreError:
                        rows = expected
                self.assert_close(rows, expected, "an error inside the backend was lost")
                self.assert_close(_in_time(encode), expected, "after an error inside the backend")

    def test_a_program_may_end_while_it_is_open(self, tmp_path: Path) -> None:
        """Another process loads the pickled model, has the same rows, and ends without closing."""
        if self.lacking("entry_point"):
            pytest.skip("declared: registered in code")
        stored, found = tmp_path / "model.pickle", tmp_path / "rows.npy"
        stored.write_bytes(pickle.dumps((self.shared(), list(TEXTS))))
        done = subprocess.run(
            [sys.executable, "-c", _ENDING, str(stored), str(found)],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * _FOR_EVER,
        )
        assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr}"
        self.assert_close(np.load(found), self.rows(), "in another process")


def _held(folder: Path) -> dict[str, int]:
    """What the process has of what can run out; only the first and the last outside Linux."""
    found = {"threads": threading.active_count()}
    with suppress(OSError):
        found["open files"] = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        found["threads"] = len(os.listdir("/proc/self/task"))  # noqa: PTH208
        lists = Path("/proc/self/task").glob("*/children")
        found["child processes"] = sum(len(one.read_text().split()) for one in lists)
    found["temporary files"] = sum(path.is_file() for path in folder.rglob("*"))
    return found


def _grown(before: dict[str, int], folder: Path) -> list[str]:
    """What there is more of by one for every model, in words."""
    now = _held(folder)
    more = {what: now[what] - count for what, count in before.items()}
    return [f"{count} {what}" for what, count in more.items() if count >= _LIVES]


def _kept(made: list[tuple[str, weakref.ref[Any]]]) -> str:
    """What of every model there still is: "model", "runtime", "" for neither."""
    there = [what for what, one in made if one() is not None]
    return next((what for what in ("model", "runtime") if there.count(what) >= _LIVES), "")


@contextmanager
def _failing(packages: set[str], place: int) -> Iterator[None]:
    """The function of these packages that is called as the `place`th raises at once."""
    calls = itertools.count(1)

    def at_call(frame: FrameType, event: str, argument: Any) -> None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        named = not frame.f_code.co_name.startswith("<")
        if named and package in packages and next(calls) == place:
            raise RuntimeError("raised by the conformance suite")

    before, of_threads = sys.gettrace(), threading.gettrace()
    threading.settrace(at_call)
    sys.settrace(at_call)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(of_threads)


def _in_time(call: Callable[[], Any]) -> Any:
    """What a call returns, if it ever does."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(_FOR_EVER)
    assert results or not thread.is_alive(), "encode waits for ever after an error inside it"
    return results[0] if results else call()
