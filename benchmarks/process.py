"""Processes that hold one system each, driven line by line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WORKER = Path(__file__).with_name("worker.py")


class WorkerFailedError(RuntimeError):
    """A system's process ended; the message has the end of what it printed."""


class Worker:
    """A system in its own process, loaded once and kept for all rounds."""

    def __init__(self, interpreter: Path, spec: dict[str, Any], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [str(interpreter), str(WORKER), json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
                cwd=log.parent,
            )
        self.ready = self._read()

    def ask(self, **command: Any) -> Any:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(command), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            tail = self._log.read_text(errors="replace")[-2_000:]
            raise WorkerFailedError(f"exit code {self._process.returncode}, {self._log}:\n{tail}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def environment() -> dict[str, str]:
    """No network, no thread settings of the shell: every library decides for itself."""
    dropped = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CORE_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("PYTHON")}
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
