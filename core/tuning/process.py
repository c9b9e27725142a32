"""The parent's end of the processes that run variants."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from core.errors import CoreError, PluginError
from core.machine.child import receive_bytes, send
from core.machine.surroundings import is_frozen
from core.plugin.registry import registry
from core.tuning.subject import Subject

#: Characters of what a process printed before it died that its error repeats.
_LAST_WORDS = 300


class TooSlowError(CoreError):
    """A variant did not answer within the time that was left for it."""


class DiedError(PluginError):
    """A variant's process ended by itself."""


class Bench(Protocol):
    """Something that runs the methods of `Subject`."""

    started: float

    def ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any: ...

    def close(self) -> None: ...


def open_bench(backend: str) -> Bench:
    """A process for a variant of this backend.

    This process itself runs backends that were registered in code, which others do not see, and
    everything in a frozen application, whose executable cannot run a module.
    """
    if is_frozen() or not registry.backend(backend).plugin.distribution:
        return _Here()
    return _Process()


class _Here:
    """A variant in this process."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self._subject = Subject()

    def ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        return getattr(self._subject, method)(*arguments)

    def close(self) -> None:
        self._subject.close()


class _Process:
    """A variant in a process of its own."""

    def __init__(self) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "core.tuning.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            },
        )

    def ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """What a method of the process's `Subject` returns; what it raises is raised here.

        Args:
            method: Its name.
            *arguments: Its arguments.
            seconds: How long to wait at most; None for as long as it takes.

        Raises:
            TooSlowError: It took longer; the process is ended.
            DiedError: The process died.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with _ended_after(seconds, process):
                send(process.stdin, pickle.dumps((method, arguments), protocol=5))
                result = pickle.loads(receive_bytes(process.stdout))
        except (OSError, EOFError) as error:
            process.wait()
            raise DiedError(
                f"its process ended with {_ending(process.returncode)}.{self._last_words()}"
            ) from error
        except BaseException:
            self.close()
            raise
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._words):
            assert pipe is not None
            with contextlib.suppress(OSError):  # unsent words have nowhere to go
                pipe.close()

    def _last_words(self) -> str:
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip()
        return f" It said: {' '.join(said[-_LAST_WORDS:].split())}" if said else ""


@contextlib.contextmanager
def _ended_after(seconds: float | None, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process where the context lasts longer, and raise `TooSlowError` then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(threading.TIMEOUT_MAX if seconds is None else seconds, end)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    except (OSError, EOFError):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TooSlowError(f"it took longer than the {seconds:.0f} s that were left")


def _ending(code: int) -> str:
    if code == -9:
        return "signal 9, as the system ends one where memory runs out"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
