"""The released clients of examples/server_clients, against a server: `make server-clients`.

    python scripts/server_clients.py PYTHON MODEL

PYTHON is the interpreter of an environment with the clients, MODEL a directory with an ONNX file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import core
from benchmarks.server.process import ServerProcess

ROOT = Path(__file__).resolve().parents[1]
KEY = "a key of the example"
TEXTS = [
    "It is raining in Oslo.",
    "The stock market fell.",
    "naïve café, Zürich, 机器学习",
    "",
    "Cats sleep all day, and dogs bark at night. " * 40,
    *(f"text number {i} " * (1 + i % 9) for i in range(60)),
]


def main() -> int:
    """Start a server, run the clients' tests, and end it."""
    python, model = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        with core.load(model, backend="onnx") as loaded:
            np.save(Path(folder, "expected.npy"), loaded.encode(TEXTS))
        Path(folder, "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
        arguments = [model, "--backend", "onnx", "--api-key", KEY, "--log-level", "warning"]
        with ServerProcess([sys.executable, "-m", "core", "serve", *arguments]) as server:
            done = subprocess.run(
                [
                    *(python, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", "."),
                    *("-p", "no:cacheprovider", "test_clients.py"),
                ],
                check=False,
                cwd=ROOT / "examples" / "server_clients",
                env={
                    **{name: os.environ[name] for name in os.environ if name != "PYTHONPATH"},
                    "CORE_EXAMPLE_URL": server.url,
                    "CORE_EXAMPLE_KEY": KEY,
                    "CORE_EXAMPLE_EXPECTED": folder,
                },
            )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
