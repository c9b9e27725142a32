"""Short texts streamed through one model, in a process of its own, which nothing else fills.

    python -m benchmarks.stream_process '{"path": ..., "backend": ..., "texts": ..., ...}'

Prints one line of JSON: after each window the texts done, resident megabytes, and seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import core
from benchmarks import texts
from benchmarks.worker import memory


def until(end: float, source: Iterator[str]) -> Iterator[str]:
    """The source's texts, no more of them after the end."""
    for text in source:
        if time.perf_counter() > end:
            return
        yield text


def main() -> None:
    given = json.loads(sys.argv[1])
    trace, done = [], 0
    with core.load(
        given["path"], backend=given["backend"], device="cpu", file_name=given["file_name"]
    ) as model:
        model.encode(["warm up"] * 3 + ["and another"])
        start = time.perf_counter()
        source = until(start + given["seconds"], texts.stream(given["texts"]))
        for rows in model.encode_stream(source, window=given["window"]):
            done += len(rows)
            trace.append([done, memory()["now"], time.perf_counter() - start])
    print(json.dumps(trace))


if __name__ == "__main__":
    main()
