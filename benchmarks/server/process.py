"""A server in a process of its own, from its start until it answers, and its memory."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_START_SECONDS = 180.0
_END_SECONDS = 90.0


class ServerProcess:
    """Started with `--port N` behind its command, on a port that was free.

    Args:
        command: What to run.
        health: The path that answers 200 when it is ready.
        port_option: How its command takes the port.
        environment: Variables; None for this process's.

    Raises:
        RuntimeError: It ended, or was not ready in time.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        health: str = "/health",
        port_option: str = "--port",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [*command, port_option, str(self.port)], env=environment, start_new_session=True
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready(health):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.1)

    def _ready(self, health: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{health}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @property
    def megabytes(self) -> float:
        """What it and the processes it started hold in memory, in 10^6 bytes; 0 when it is gone."""
        return sum(_resident(pid) for pid in _family(self._process.pid)) / 1e6

    def end(self) -> int:
        """Ask it to end; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[int]:
    found = [pid]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found.append(int(folder.name))
    return found


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) * 1024
