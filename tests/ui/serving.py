"""`core ui` in a process of its own, and requests to it with any headers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """Of a request."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: Ends with a slash.
        root: What it may read and write.
    """

    url: str
    root: Path
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def cookie(self) -> str:
        return f"core-ui-{self.port}"

    def jobs(self) -> list[int]:
        """The processes of its jobs."""
        found = []
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            found += [int(number) for number in children.read_text().split()]
        return found

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, *, body: Any = None
    ) -> Answer:
        """GET, or POST with a body: bytes, or what becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        try:
            method = "GET" if body is None else "POST"
            connection.putrequest(method, path, skip_host="Host" in given)
            for name, value in given.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def upload(self, content: bytes) -> Answer:
        """As the page's button does it."""
        head = (
            "--limit\r\n"
            'Content-Disposition: form-data; name="files"; filename="a.txt"\r\n'
            "Content-Type: text/plain\r\n\r\n"
        )
        form = {"Content-Type": "multipart/form-data; boundary=limit"}
        body = head.encode() + content + b"\r\n--limit--\r\n"
        return self.ask("/gradio_api/upload", form, body=body)


def runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def command(root: Path, *words: str) -> tuple[int, str]:
    """Exit code and standard error of `core ui` that does not come to serve."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "core", "ui", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=_environment({}),
        timeout=SECONDS,
    )
    return done.returncode, done.stderr


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    paths = [str(ROOT), *(str(path) for path in ROOT.glob("plugins/*/src")), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


@contextmanager
def served(
    root: Path, *words: str, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """`core ui` on a free port; ended as by Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "core", "ui", "--port", "0", *words],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(environment or {}),
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("core ui: http://"), said
            yield Served(said.split()[2], root, process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
