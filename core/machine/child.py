"""Processes that answer this one: a Python program of core's own and the pipes to it.

Messages are pickles behind their length. The other end is `core.machine.parent`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from core.machine.cpus import THREADS_VARIABLE

_LENGTH = struct.Struct(">Q")

# A process that broke the pipe is given this long to end with its own exit code.
_LAST_WORDS_SECONDS = 2.0


class ChildDiedError(Exception):
    """The process ended without answering."""


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message: its length, then the pickle."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive_bytes(stream: IO[bytes]) -> bytes:
    """One message as it was pickled.

    Raises:
        EOFError: The other end is gone.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


class Child:
    """A process that answers one message after the other.

    Args:
        module: What it runs: its `main` calls `core.machine.parent.serve`.
        state: Pickled, its first message.
        threads: Its own.
    """

    def __init__(self, module: str, state: bytes, threads: int) -> None:
        self._module, self._state, self._threads = module, state, threads
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.loaded = False

    @property
    def alive(self) -> bool:
        """Whether it has answered to its state, and runs."""
        process = self._process  # other threads ask, too
        return self.loaded and process is not None and process.poll() is None

    def start(self) -> None:
        """Start it, or start it again."""
        self.kill()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            THREADS_VARIABLE: str(self._threads),
            "OMP_NUM_THREADS": str(self._threads),
            "RAYON_NUM_THREADS": str(self._threads),
        }
        self._process = subprocess.Popen(
            # Without the current directory, unless this program imports from there as well.
            [sys.executable, "-P", "-m", self._module, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Applications without a console have none that could be inherited.
            stderr=subprocess.DEVNULL if sys.stderr is None else None,
            env=environment,
        )
        self.pid = self._process.pid

    def wait_until_loaded(self) -> None:
        """Raises what reading its state raised."""
        answer = self.ask(self._state)
        if isinstance(answer, BaseException):
            self.kill()
            raise answer
        self.loaded = True

    def ask(self, message: bytes) -> Any:
        """The answer to a pickled message.

        Whatever goes wrong between the first byte sent and the last one read ends the process:
        the rest of an answer in the pipe would be taken for the next one.

        Raises:
            ChildDiedError: It ended.
        """
        process = self._process
        if process is None:
            raise ChildDiedError("it was stopped")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            send(process.stdin, message)
            answer = receive_bytes(process.stdout)
        except (OSError, EOFError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS_SECONDS)
            self.kill()
            code = process.returncode
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ChildDiedError(f"the process ended with {how}") from error
        except BaseException:
            self.kill()
            raise
        return pickle.loads(answer)

    def kill(self) -> None:
        """End the process at once; it holds nothing that could be lost."""
        process, self._process, self.loaded = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError, ValueError):  # unsent words have nowhere to go
                pipe.close()
