"""`core serve` under load: `python -m benchmarks.server.run MODEL`.

On loopback, with texts of mixed lengths, in rounds that alternate between `encode` in a process and
the servers, so that what else the machine does touches all of them:

- closed loop: 64 clients with one text a request, against `encode` of the same texts at once;
- a lone client, against `encode` of one text;
- overload: three times as many requests a second as the same server answers in a closed loop, just
  before and just after;
- soak: the closed loop for minutes, or `--soak-rate` requests a second, and the server's memory.

`--rounds 0` leaves out what is compared with `encode`; `--overload-seconds 0` and
`--soak-minutes 0` the others. Overload alone is `--rounds 0 --soak-minutes 0`.

Other servers are started by `--peer NAME=COMMAND`, whose port goes behind it. `peers.py` is one of
a few lines, with FastAPI and sentence-transformers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import core
from benchmarks.machine import describe
from benchmarks.server.clients import Answers, closed_loop, open_loop, request_of
from benchmarks.server.process import ServerProcess
from benchmarks.texts import mix

HOST = "127.0.0.1"
CLIENTS = 64
OVERLOAD = 3.0
_SOAK_STEP = 10.0
_LONE = "How do I renew a library card that has expired?"


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model", help="a directory with a file for the backend")
    parser.add_argument("--backend", default="onnx")
    parser.add_argument("--serve", default="", help="more arguments of `core serve`")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--overload-seconds", type=float, default=30.0)
    parser.add_argument("--soak-minutes", type=float, default=10.0)
    parser.add_argument("--soak-rate", type=float, help="requests a second; else as fast as it can")
    parser.add_argument("--output", type=Path)
    parsed = parser.parse_args()
    found = measure(parsed)
    print(json.dumps(found, indent=2))
    if parsed.output:
        parsed.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def measure(parsed: argparse.Namespace) -> dict[str, Any]:
    texts = mix("mixed", parsed.texts)
    requests = [request_of("/v1/embeddings", text, "input") for text in texts]
    command = [sys.executable, "-m", "core", "serve", parsed.model, "--backend", parsed.backend]
    commands = {"core serve": [*command, *shlex.split(parsed.serve)]}
    for peer in parsed.peer:
        name, _, words = peer.partition("=")
        commands[name] = shlex.split(words)
    found: dict[str, Any] = {"machine": describe(), "texts": len(texts)}
    if parsed.rounds:
        found |= _compare(parsed, commands, texts, requests)
    with ServerProcess(commands["core serve"]) as server:
        asyncio.run(closed_loop(HOST, server.port, requests[:200], CLIENTS))
        if parsed.overload_seconds:
            found["overload"] = _overload(server.port, requests, parsed.overload_seconds)
        if parsed.soak_minutes:
            found["soak"] = _soak(server, requests, parsed.soak_minutes, parsed.soak_rate)
    return found


def _compare(
    parsed: argparse.Namespace,
    commands: Mapping[str, Sequence[str]],
    texts: Sequence[str],
    requests: Sequence[bytes],
) -> dict[str, Any]:
    """The closed loop and the lone client, in rounds with `encode`."""
    lone = request_of("/v1/embeddings", _LONE, "input")
    rates: dict[str, list[float]] = {"encode": []}
    waits: dict[str, list[float]] = {"encode": []}
    latencies: dict[str, list[Answers]] = {}
    for _ in range(parsed.rounds):
        _encode_round(parsed, texts, rates["encode"], waits["encode"])
        for name, words in commands.items():
            with ServerProcess(words) as server:
                asyncio.run(closed_loop(HOST, server.port, requests[:200], CLIENTS))
                answers = asyncio.run(closed_loop(HOST, server.port, requests, CLIENTS))
                rates.setdefault(name, []).append(answers.done / answers.elapsed)
                latencies.setdefault(name, []).append(answers)
                alone = asyncio.run(closed_loop(HOST, server.port, [lone] * 200, 1))
                waits.setdefault(name, []).append(alone.percentile(200, 50))
    own = [a / b for a, b in zip(rates["core serve"], rates["encode"], strict=True)]
    more = [a - b for a, b in zip(waits["core serve"], waits["encode"], strict=True)]
    closed = {
        "clients": CLIENTS,
        "texts_per_second": {name: statistics.median(given) for name, given in rates.items()},
        "share_of_encode": statistics.median(own),
        "p50_ms": {n: _middle(given, 50) for n, given in latencies.items()},
        "p99_ms": {n: _middle(given, 99) for n, given in latencies.items()},
        "failed": {n: sum(one.failed for one in given) for n, given in latencies.items()},
    }
    alone_ms = {
        "p50_ms": {name: 1e3 * statistics.median(given) for name, given in waits.items()},
        "over_encode_ms": 1e3 * statistics.median(more),
    }
    return {"closed_loop": closed, "lone_request": alone_ms}


def _encode_round(
    parsed: argparse.Namespace, texts: Sequence[str], rates: list[float], waits: list[float]
) -> None:
    with core.load(parsed.model, backend=parsed.backend) as model:
        model.encode(texts[:200])
        start = time.perf_counter()
        model.encode(texts)
        rates.append(len(texts) / (time.perf_counter() - start))
        seconds = []
        for _ in range(200):
            start = time.perf_counter()
            model.encode([_LONE])
            seconds.append(time.perf_counter() - start)
        waits.append(statistics.median(seconds))


def _middle(given: Sequence[Answers], percent: float) -> float:
    return 1e3 * statistics.median(one.percentile(200, percent) for one in given)


def _overload(port: int, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    before = _peak(port, requests)
    answers = asyncio.run(open_loop(HOST, port, requests, OVERLOAD * before, seconds))
    peak = statistics.mean([before, _peak(port, requests)])
    sent = answers.failed + sum(map(len, answers.seconds.values()))
    return {
        "peak_per_second": peak,
        "sent_per_second": sent / answers.elapsed,
        # What was accepted last is answered after the last request was sent.
        "goodput_share_of_peak": answers.done / answers.total_elapsed / peak,
        "answers": {str(status): len(found) for status, found in answers.seconds.items()},
        "failed": answers.failed,
        "refusal_p50_ms": 1e3 * answers.percentile(429, 50),
        "refusal_p99_ms": 1e3 * answers.percentile(429, 99),
        # With the clients' own wait for a processor.
        "refusal_seen_p50_ms": 1e3 * answers.percentile(429, 50, seen=True),
        "refusal_seen_p99_ms": 1e3 * answers.percentile(429, 99, seen=True),
    }


def _peak(port: int, requests: Sequence[bytes]) -> float:
    """Requests a second in a closed loop."""
    answers = asyncio.run(closed_loop(HOST, port, requests, CLIENTS))
    return answers.done / answers.elapsed


def _soak(
    server: ServerProcess, requests: Sequence[bytes], minutes: float, rate: float | None
) -> dict[str, Any]:
    memory = [server.megabytes]
    failed = done = 0
    for _ in range(max(int(minutes * 60 / _SOAK_STEP), 2)):
        if rate is None:
            load = closed_loop(HOST, server.port, requests, CLIENTS, seconds=_SOAK_STEP)
        else:
            load = open_loop(HOST, server.port, requests, rate, _SOAK_STEP)
        answers = asyncio.run(load)
        done, failed = done + answers.done, failed + answers.failed
        memory.append(server.megabytes)
    last = len(memory) - 1
    return {
        "minutes": minutes,
        "requests": done,
        "failed": failed,
        "megabytes": {
            name: round(memory[int(share * last)], 1)
            for name, share in (
                ("start", 0),
                ("1/4", 0.25),
                ("1/2", 0.5),
                ("3/4", 0.75),
                ("end", 1),
            )
        },
        "growth_of_second_half_mb": round(memory[last] - memory[last // 2], 1),
    }


if __name__ == "__main__":
    main()
