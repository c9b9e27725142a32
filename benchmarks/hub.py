"""As much of the Hub as one peer needs: the files of a model, from this machine.

embed-anything takes a model by its name on the Hub only, and asks the Hub for the current version
of every file each time it loads one. Without a network it tries for ten seconds before it looks
into its cache, which would be measured as its start.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL_ID = "benchmark/minilm"


@cache
def serve(model: Path) -> str:
    """Serve a folder as `MODEL_ID` until the program ends; returns what HF_ENDPOINT must be."""
    root = model.resolve()
    prefix = f"/{MODEL_ID}/resolve/main/"

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            file = (root / self.path.removeprefix(prefix)).resolve()
            if not (self.path.startswith(prefix) and file.is_relative_to(root) and file.is_file()):
                self.send_error(404)
                return
            size = file.stat().st_size
            first, last = self._range(size)
            self.send_response(206)
            self.send_header("x-repo-commit", "0" * 40)
            # What the client names its copy by; a file made anew must get another one.
            self.send_header("etag", f'"{size:x}-{file.stat().st_mtime_ns:x}"')
            self.send_header("content-range", f"bytes {first}-{last}/{size}")
            self.send_header("content-length", str(last - first + 1))
            self.end_headers()
            if not body:
                return
            # It hangs up once it has seen from the headers that its copy is current.
            with contextlib.suppress(ConnectionError), file.open("rb") as content:
                content.seek(first)
                if last == size - 1:
                    shutil.copyfileobj(content, self.wfile)
                else:
                    self.wfile.write(content.read(last - first + 1))

        def _range(self, size: int) -> tuple[int, int]:
            asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
            first, _, last = asked.partition("-")
            return int(first), min(int(last or size - 1), size - 1)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: progress is printed elsewhere."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="hub").start()
    return f"http://127.0.0.1:{server.server_port}"
