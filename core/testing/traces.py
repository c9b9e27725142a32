"""What a call leaves behind in the process that made it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Set by `core` itself, for the threads of the tokenizers.
_OWN_VARIABLES = {"RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"}
#: Set by pytest while tests run.
_OF_PYTEST = {"PYTEST_CURRENT_TEST"}


@dataclass(frozen=True)
class _State:
    """What a process shares, at one moment."""

    folder: str
    environment: dict[str, str]
    numbers: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def now(cls) -> _State:
        return cls(_folder(), dict(os.environ), _numbers(), _settings())

    def restore(self) -> None:
        """Set all that can be set, so that the same fault shows again in the next block."""
        if _folder() != self.folder:
            os.chdir(self.folder)
        for name in {*os.environ, *self.environment} - _OF_PYTEST:
            if name not in self.environment:
                del os.environ[name]
            elif os.environ.get(name) != self.environment[name]:
                os.environ[name] = self.environment[name]
        random.setstate(self.numbers["random"])
        kind, keys, *rest = self.numbers["numpy.random"]
        np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))
        for name, (read, write) in _RESTORED.items():
            if read() != self.settings[name]:
                write(self.settings[name])


@dataclass
class Traces:
    """What was found to have changed, a line each.

    Attributes:
        before: Of the block.
        grave: The working directory, a variable of the environment that was there, standard
            output, random numbers: no call may change them, not even the first, which imports the
            runtime.
        other: Settings that libraries may make when they are imported, but not with every call.
        added: Variables of the environment that were not there.
    """

    before: _State
    grave: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    added: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def watched(variables: Collection[str] = ()) -> Iterator[Traces]:
    """Note what the block leaves behind, and undo it where that is possible.

    Args:
        variables: Names in the environment that may be set.
    """
    with _output() as written:
        traces = Traces(_State.now())
        yield traces
        after = _State.now()
    before = traces.before
    if after.folder != before.folder:
        traces.grave.append(f"the working directory is {after.folder!r} now, not {before.folder!r}")
    _compare_variables(traces, before.environment, after.environment, variables)
    for name, state in after.numbers.items():
        if state != before.numbers.get(name, state):
            traces.grave.append(
                f"the global state of {name} has changed: use a generator of your own"
            )
    if written:
        shown = b"".join(written).decode(errors="replace")[:200]
        traces.grave.append(f"standard output has {shown!r}: use logging")
    for name, old in before.settings.items():
        if after.settings[name] != old:
            traces.other.append(f"{name}: {after.settings[name]!r} now, not {old!r}")
    before.restore()


def _compare_variables(
    traces: Traces, before: dict[str, str], after: dict[str, str], allowed: Collection[str]
) -> None:
    ours = {*_OF_PYTEST, *_OWN_VARIABLES, *allowed}
    for name in sorted({*before, *after} - ours):
        old, new = before.get(name), after.get(name)
        line = (
            f"the environment variable {name} is {new!r} now, not {old!r}: undo it, or state it in "
            "`variables`"
        )
        if old is None and new is not None:
            traces.added[name] = new
            traces.other.append(line)
        elif old != new:
            traces.grave.append(line)


def _folder() -> str:
    try:
        return str(os.getcwd())  # noqa: PTH109 - as a caller would
    except OSError:
        return ""


def _numbers() -> dict[str, Any]:
    """The state of every global generator there is."""
    kind, keys, *rest = np.random.get_state()
    found: dict[str, Any] = {
        "random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tobytes(), *rest),
    }
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_rng_state"):
        found["torch"] = torch.get_rng_state().numpy().tobytes()  # type: ignore[union-attr]
    return found


def _settings() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        **{name: read() for name, (read, _) in _RESTORED.items()},
        "sys.path": list(sys.path),
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
        "the handlers of the root logger": list(root.handlers),
        "the filters of warnings": list(warnings.filters),
    }


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found


def _affinity() -> Any:
    """Of this thread; None where the system has no such setting."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _set_affinity(processors: Any) -> None:
    if sys.platform == "linux" and processors is not None:
        os.sched_setaffinity(0, processors)


#: Settings of the process that can be read and set.
_RESTORED: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "sys.excepthook": (lambda: sys.excepthook, lambda old: setattr(sys, "excepthook", old)),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the switch interval": (sys.getswitchinterval, sys.setswitchinterval),
    "garbage collection": (gc.isenabled, lambda old: gc.enable() if old else gc.disable()),
    "the thresholds of garbage collection": (gc.get_threshold, lambda old: gc.set_threshold(*old)),
    "threading.excepthook": (
        lambda: threading.excepthook,
        lambda old: setattr(threading, "excepthook", old),
    ),
    "the start method of multiprocessing": (
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda old: multiprocessing.set_start_method(old, force=True),
    ),
    "the processors it may use": (_affinity, _set_affinity),
    "the level that logging is disabled at": (
        lambda: logging.root.manager.disable,
        logging.disable,
    ),
    "the locale": (
        lambda: locale.setlocale(locale.LC_ALL),
        lambda old: locale.setlocale(locale.LC_ALL, old),
    ),
    "the umask": (_umask, os.umask),
    "the handler of SIGINT": (
        lambda: signal.getsignal(signal.SIGINT),
        lambda old: signal.signal(signal.SIGINT, old),
    ),
    "the handler of SIGTERM": (
        lambda: signal.getsignal(signal.SIGTERM),
        lambda old: signal.signal(signal.SIGTERM, old),
    ),
    "the timeout of sockets": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "the level of the root logger": (
        lambda: logging.getLogger().level,
        lambda old: logging.getLogger().setLevel(old),
    ),
    "numpy.geterr": (np.geterr, lambda old: np.seterr(**old)),
    "numpy.get_printoptions": (np.get_printoptions, lambda old: np.set_printoptions(**old)),
}


@contextlib.contextmanager
def _output() -> Iterator[list[bytes]]:
    """What is written to standard output meanwhile, by Python or by a library below it."""
    written: list[bytes] = []
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
    original = sys.stdout
    with tempfile.TemporaryFile() as below:
        _flush()
        kept = os.dup(1)
        os.dup2(below.fileno(), 1)
        sys.stdout = stream
        try:
            yield written
        finally:
            sys.stdout = original
            _flush()
            os.dup2(kept, 1)
            os.close(kept)
            below.seek(0)
            found = stream.buffer.getvalue() + below.read()
            if found:
                written.append(found)


def _flush() -> None:
    """What C has written so far goes where it belongs."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
