"""Thousands of requests of every kind of wrong against `core serve`, with tiny models.

    python -m scripts.fuzz_server [--requests 5000]

Ends with 1 at the first answer that is an error of the server's own, hangs, or shows a traceback.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.server.process import ServerProcess
from core.testing import tiny_model, tiny_multi_vector, tiny_reranker, tiny_sparse
from tests.server import fuzzing

_WAIT = 60.0


def main() -> int:
    """Send them, and print how many answers had each status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    count = parser.parse_args().requests
    found: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        models = [
            make(Path(folder, make.__name__))
            for make in (tiny_model, tiny_reranker, tiny_sparse, tiny_multi_vector)
        ]
        command = [sys.executable, "-m", "core", "serve", *map(str, models), "--backend", "torch"]
        command += ["--log-level", "warning"]
        with (
            ServerProcess(command) as server,
            httpx.Client(base_url=server.url, timeout=_WAIT) as client,
        ):

            def send(request: tuple[str, bytes]) -> None:
                path, body = request
                answer = client.post(path, content=body)
                fuzzing.check(answer)
                found[answer.status_code] += 1

            for strategy, share in ((fuzzing.REQUESTS, 0.88), (fuzzing.HUGE_REQUESTS, 0.02)):
                settings(
                    max_examples=max(int(count * share), 1),
                    database=None,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )(given(strategy)(send))()
            draws = random.Random(20_261_127)
            for _ in range(count // 10):
                fuzzing.broken_connection(server.port, draws)
            health = client.get("/health")
            assert health.status_code == 200, health.text
            assert client.post("/embed", json={"inputs": "a cat"}).status_code == 200
    print(dict(found), f"and {count // 10} connections that broke off")
    return 0


if __name__ == "__main__":
    sys.exit(main())
