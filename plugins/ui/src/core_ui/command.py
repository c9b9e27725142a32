"""The command `core ui`."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from core.errors import CoreError, OptionError
from core_ui.access import read_auth
from core_ui.paths import Roots

_PORT = 7860


def ui(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Add the arguments; return what runs the command."""
    parser.description = (
        "Serve a page for the browser: make variants of a model, compare, choose and publish them."
    )
    parser.add_argument("--model", help="a directory, or a name on the Hub, to begin with")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=_PORT, help=f"port to listen on ({_PORT}); 0 for any free one"
    )
    parser.add_argument(
        "--root",
        action="append",
        type=Path,
        metavar="DIRECTORY",
        help="what the page may read and write, may be repeated; the current directory if absent",
    )
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="who may open the page; required where --host lets other machines in",
    )
    return run


def run(parsed: argparse.Namespace) -> None:
    """Serve until interrupted.

    Raises:
        OptionError: A directory, an address or a password is missing or wrong.
        CoreError: The port is taken.
    """
    auth = read_auth(parsed.host, parsed.auth)
    if not 0 <= parsed.port <= 65535:
        raise OptionError(f"--port is a number from 0 to 65535, not {parsed.port}.")
    roots = Roots.of(parsed.root or [Path.cwd()])
    if parsed.model:
        roots.model(parsed.model)
    with (
        listen(parsed.host, parsed.port) as listening,  # before what takes seconds to import
        tempfile.TemporaryDirectory(prefix="core-ui-") as folder,
    ):
        # gradio reads both when it is imported: it would report to its maker, and keep uploads.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = folder
        from core_ui.app import serve

        serve(listening, roots, parsed.model or "", parsed.host, auth)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        CoreError: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise CoreError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}. Choose "
            "another with --port; 0 takes any free one."
        ) from error
