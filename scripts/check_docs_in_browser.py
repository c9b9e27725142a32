"""The built documentation, opened in a real browser: does it render, and does its search work?

    make docs
    python scripts/check_docs_in_browser.py [CHROMIUM]

Serves .cache/site on the loopback interface and opens the start page, pages with tables, and a
search, in headless Chromium (Debian's package `chromium`), over its DevTools protocol. A page that
does not come to show what it should ends the script with an error. Screenshots go to
.cache/screenshots.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / ".cache/site"
SCREENSHOTS = ROOT / ".cache/screenshots"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
    "--remote-debugging-pipe",
)
TABLE = "document.querySelector('article table').offsetHeight > 100"
FOUND = "document.querySelectorAll('.md-search-result__item a').length > 0"
#: Name of a screenshot to the page, and to what is true of it once it is shown.
PAGES = {
    "start": ("", ["document.title.includes('core')", "!!document.querySelector('h1')"]),
    "migration": ("migration/", ["document.title.includes('Migration')", TABLE]),
    "features": ("features/", [TABLE, "document.body.innerText.includes('test_ways.py')"]),
    "reference": (
        "reference/",
        [
            "!!document.getElementById('core.load')",
            "!!document.getElementById('core.sentence_transformers.SimilarityFunction')",
        ],
    ),
    "search": ("?q=quantize", [FOUND, "/quanti/i.test(document.querySelector('mark').innerText)"]),
}
#: How long a page may take to show something, on a busy machine.
SECONDS = 60


def main() -> None:
    browser = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium")
    if browser is None:
        sys.exit("Chromium is not installed: apt-get install chromium, or name its path.")
    if not (SITE / "index.html").is_file():
        sys.exit(f"{SITE} has no documentation: run `make docs` first.")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    failures = 0
    with served(SITE) as address, opened(browser) as devtools:
        for name, (page, expected) in PAGES.items():
            missing = devtools.look(f"{address}/{page}", SCREENSHOTS / f"{name}.png", expected)
            failures += len(missing)
            print(f"{name}: {f'not so: {missing}' if missing else 'as it should be'}")
    print(f"Screenshots: {SCREENSHOTS}")
    if failures:
        sys.exit(1)


class DevTools:
    """Commands to a browser, and its answers, as JSON that ends with a zero byte.

    https://chromedevtools.github.io/devtools-protocol/
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._number = 0
        self._unread = b""

    def look(self, address: str, screenshot: Path, expected: list[str]) -> list[str]:
        """Open a page, wait, keep a picture, and return the expressions that are not true."""
        target = self.ask("Target.createTarget", url=address)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        deadline = time.monotonic() + SECONDS
        while missing := [e for e in expected if not self._holds(e, session)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        picture = self.ask("Page.captureScreenshot", session)["data"]
        screenshot.write_bytes(base64.b64decode(picture))
        self.ask("Target.closeTarget", targetId=target)
        return missing

    def _holds(self, expression: str, session: str) -> bool:
        # What throws, because its element is not there yet, does not hold.
        answer = self.ask("Runtime.evaluate", session, expression=expression, returnByValue=True)
        return answer["result"].get("value") is True

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        self._commands.write(json.dumps(command).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass  # events nobody asked for
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = self._answers.read(1 << 16)
            if not part:
                raise RuntimeError("The browser ended.")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def opened(browser: str) -> Iterator[DevTools]:
    """A browser with a fresh profile, and the pipes it takes commands from."""
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    with tempfile.TemporaryDirectory(prefix="core-browser-", ignore_cleanup_errors=True) as profile:
        arguments = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            # Chromium reads from file descriptor 3 and writes to 4.
            ["/bin/sh", "-c", f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}', *arguments],
            pass_fds=(from_us, to_us),
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        devtools = DevTools(to_browser, from_browser)
        try:
            yield devtools
            devtools.ask("Browser.close")  # its own way to end takes its helper processes along
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server on the loopback interface that has a directory's files."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    main()
