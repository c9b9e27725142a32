"""Processes that hold one system each, driven line by line, none of them longer than allowed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("worker.py")
#: Seconds for one command. The slowest of the usual peers takes five.
DEADLINE = 120.0
#: Seconds between two systems: runtimes let their threads spin for a moment after the work, and the
#: next system should not pay.
PAUSE = 0.25

_TELLING = re.compile(r"(Error|Exception)\b|panicked|^slower than|^killed", re.IGNORECASE)


class WorkerFailedError(RuntimeError):
    """A system's process ended or was ended; the message has its last words, or the deadline."""


class Worker:
    """A system in its own process, loaded once and kept for all rounds.

    Raises:
        WorkerFailedError: It ended instead of answering, or was not ready before the deadline;
            so does every `ask`. The process is gone then.
    """

    def __init__(
        self, interpreter: Path, spec: dict[str, Any], log: Path, deadline: float = DEADLINE
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [str(interpreter), str(WORKER), json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(interpreter),
                cwd=log.parent,
            )
        self.ready = self._read("getting ready", deadline)

    def ask(self, *, deadline: float = DEADLINE, **command: Any) -> Any:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(command), file=self._process.stdin, flush=True)
        what = " ".join(str(command[key]) for key in ("do", "workload") if key in command)
        return self._read(what, deadline)

    def _read(self, what: str, deadline: float) -> Any:
        assert self._process.stdout is not None
        answered, _, _ = select.select([self._process.stdout], [], [], deadline)
        if not answered:
            self._end(patience=0)
            raise WorkerFailedError(f"slower than {deadline:g} seconds: {what}")
        line = self._process.stdout.readline()
        if not line:
            self._end()
            tail = self._log.read_text(errors="replace")[-4_000:]
            raise WorkerFailedError(
                f"{what}: exit code {self._process.returncode}, {self._log.name}:\n{tail}"
            )
        return json.loads(line)

    def _end(self, patience: float = 20) -> None:
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def close(self) -> None:
        """End it at once: it has answered, and runtimes take seconds to clean up."""
        self._end(patience=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def telling_line(message: str) -> str:
    """The line of a process's last words that says why; others follow it in a backtrace."""
    lines = message.strip().splitlines() or ["no message"]
    telling = (line for line in reversed(lines) if _TELLING.search(line))
    return next(telling, lines[-1]).strip()


def environment(interpreter: Path | str) -> dict[str, str]:
    """For a process of an interpreter, our own or a peer's.

    No network, no thread settings of the shell: every library decides for itself. Our own imports
    this checkout, whichever one is installed: that is what the record says was measured.
    """
    dropped = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CORE_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("PYTHON")}
    if str(interpreter) == sys.executable:
        sources = [_ROOT, *sorted(_ROOT.glob("plugins/*/src"))]
        kept["PYTHONPATH"] = os.pathsep.join(map(str, sources))
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def cold_start(interpreter: Path, spec: dict[str, Any], log: Path) -> float:
    """Seconds from starting the interpreter to having the first embedding."""
    start = time.perf_counter()
    with Worker(interpreter, {**spec, "measure": "cold"}, log):
        return time.perf_counter() - start


def installed_size(interpreter: Path, distributions: list[str], log: Path) -> Any:
    """What the distributions and their requirements occupy, in megabytes."""
    spec = {"measure": "size", "distributions": distributions}
    with Worker(interpreter, spec, log) as worker:
        return worker.ready
