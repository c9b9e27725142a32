"""Commands that run in the background: they outlive a page's reload, and can be cancelled."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import CoreError, OptionError
from core_ui.child import PATIENCE_SECONDS

#: More at once would only take turns on the processor, and wrong each other's measurements.
MOST_RUNNING = 4
_MOST_LINES = 2_000

#: Command lines without `core`; the folder holds the job's files.
Steps = Callable[[Path], Sequence[Sequence[str]]]


@dataclass(eq=False)
class Job:
    """Commands of core that run, or have run, one after the other.

    Attributes:
        steps: The command lines, without `core`.
        folder: For the files that they take and write.
        notes: What the page keeps with it, to show it again.
        lines: What the commands said of their progress, and why one failed.
    """

    steps: tuple[tuple[str, ...], ...]
    folder: Path
    notes: Mapping[str, Any]
    lines: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    _outputs: list[str] = field(default_factory=list)
    _code: int | None = None
    _cancelled: bool = False
    _process: subprocess.Popen[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> str:
        """`"running"`, `"cancelled"`, `"failed"` or `"done"`."""
        if not self._done.is_set():
            return "running"
        if self._cancelled and self._code:
            return "cancelled"
        return "failed" if self._code else "done"

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended or time.monotonic()) - self.started

    def results(self) -> list[dict[str, Any]]:
        """The JSON document of each command, once it is done.

        Raises:
            CoreError: It has none, in the words of the command.
        """
        if self.state != "done":
            raise CoreError(self.failure)
        return [json.loads(output) for output in self._outputs]

    @property
    def failure(self) -> str:
        """Why it failed, in the words of its last command."""
        for number in reversed(range(len(self.lines))):
            for step in self.steps:
                said = f"core {step[0]}: "
                if self.lines[number].startswith(said):
                    return "\n".join(self.lines[number:]).removeprefix(said)
        return self.lines[-1] if self.lines else f"The command {self.state} without a word."

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it ended within that time."""
        return self._done.wait(seconds)

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to end it; it may still put away what it began."""
        return self._cancelled

    def cancel(self) -> None:
        """Interrupt it; it ends when it has put away what it began."""
        with self._lock:
            self._cancelled = True
            process = self._process
        if process is not None:
            interrupt(process)

    def run(self, environment: Mapping[str, str]) -> None:
        """Run the commands until one fails."""
        try:
            for step in self.steps:
                self._code = self._run_one(step, environment)
                if self._code < 0 and not self._cancelled:
                    self.lines.append(f"core {step[0]}: {_ended_by(-self._code)}")
                if self._code:
                    break
        except Exception as error:  # the job must end, whatever happens
            self.lines.append(f"The command could not be run: {error}")
            self._code = 1
        finally:
            self.ended = time.monotonic()
            self._done.set()

    def _run_one(self, step: Sequence[str], environment: Mapping[str, str]) -> int:
        with self._lock:
            if self._cancelled:
                return 130
            process = self._process = subprocess.Popen(
                # Not from the current directory: what lies there is no code of ours.
                [sys.executable, "-P", "-m", "core_ui.child", *step],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is the server's, which cancels its jobs in order
            )
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=self._read_lines, args=(process.stderr,), daemon=True)
        reader.start()
        with process.stdout:
            self._outputs.append(process.stdout.read())
        code = process.wait()
        reader.join()
        interrupt(process)  # closes the pipe
        return code

    def _read_lines(self, stream: Any) -> None:
        with stream:
            for line in stream:
                # Of a bar that is drawn again and again in one line, the last.
                text = line.rstrip().rpartition("\r")[2]
                if text.strip() and len(self.lines) < _MOST_LINES:
                    self.lines.append(text)


def _ended_by(number: int) -> str:
    """What to say of a command that a signal ended: it could say nothing itself."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    said = f"its process was ended by {name} before it was done."
    if name == "SIGKILL":
        said += " The system does so when memory runs out: free some, or take a smaller model."
    return f"{said} What it had not finished is not there; start it again."


def interrupt(process: subprocess.Popen[str]) -> None:
    """Close the pipe that a command runs as long as it is open."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it ended by itself
        process.stdin.close()


class Jobs:
    """Every job of a server."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="core-ui-jobs-")
        self._count = 0

    def start(
        self,
        steps: Steps,
        *,
        token: str = "",
        texts: Mapping[str, str] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Job:
        """Begin commands.

        Args:
            steps: Builds the command lines, given the job's folder.
            token: For the Hub; it goes through the environment of the process, nowhere else.
            texts: Files of the job's folder, name to content.
            notes: What the page keeps with the job.

        Raises:
            OptionError: Too many run already, or a text has half of a character.
            CoreError: Its files cannot be written.
        """
        with self._lock:
            if sum(job.state == "running" for job in self._jobs) >= MOST_RUNNING:
                raise OptionError(f"{MOST_RUNNING} jobs run already: wait for one, or cancel it.")
            self._count += 1
            folder = Path(self._folder.name, str(self._count))
            try:
                folder.mkdir()
                for name, content in (texts or {}).items():
                    (folder / name).write_text(content, encoding="utf-8")
            except UnicodeEncodeError as error:
                shutil.rmtree(folder, ignore_errors=True)
                wrong = error.object[error.start]
                line = error.object.count("\n", 0, error.start) + 1
                raise OptionError(
                    f"Line {line} of what becomes {name} has half of a character ({wrong!r}): "
                    "remove it, or copy the text again."
                ) from error
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise CoreError(
                    f"Cannot write the job's files to {folder.parent}: {error.strerror}. Free "
                    "space there, or start `core ui` with TMPDIR set to another directory."
                ) from error
            lines = tuple(tuple(step) for step in steps(folder))
            job = Job(lines, folder, dict(notes or {}))
            self._jobs.append(job)
        threading.Thread(target=job.run, args=(_environment(token),), daemon=True).start()
        return job

    def forget(self, job: Job) -> None:
        """Remove the files of a job that nobody looks at any more."""
        with self._lock:
            if job in self._jobs and job.state != "running":
                self._jobs.remove(job)
                shutil.rmtree(job.folder)

    def close(self) -> None:
        """Cancel what runs, and remove every job's files."""
        with self._lock:
            running = [job for job in self._jobs if job.state == "running"]
        for job in running:
            job.cancel()
        deadline = time.monotonic() + PATIENCE_SECONDS + 5
        for job in running:
            job.wait(max(0.0, deadline - time.monotonic()))
        self._folder.cleanup()


def _environment(token: str) -> dict[str, str]:
    """This process's, with what it can import, and the token."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if token:
        found["HF_TOKEN"] = token
    return found
