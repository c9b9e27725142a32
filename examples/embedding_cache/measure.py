"""How much the cache saves on texts that were seen before: `measure.py MODEL BACKEND`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from embedding_cache import Store, plugin

import core

TEXTS = 200


def main(name: str, backend: str) -> None:
    """Seconds for texts that are unknown, 90 % known and all known; medians of three rounds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        core.load(name, backend=backend) as model,
    ):
        plugin.use(Store(Path(folder, "cache.sqlite"), 1_000_000_000))
        seconds: dict[str, list[float]] = {"unknown": [], "90 % known": [], "known": []}
        for number in range(3):
            texts = [
                f"Sentence {i} of round {number} is about as long as this." for i in range(TEXTS)
            ]
            fresh = [f"Sentence {i} is new in round {number}." for i in range(TEXTS // 10)]
            for what, given in (
                ("unknown", texts),
                ("known", texts),
                ("90 % known", texts[: TEXTS - len(fresh)] + fresh),
            ):
                start = time.perf_counter()
                model.encode(given, show_progress_bar=False)
                seconds[what].append(time.perf_counter() - start)
        base = statistics.median(seconds["unknown"])
        print(f"{TEXTS} texts, {model!r}")
        for what, taken in seconds.items():
            median = statistics.median(taken)
            print(f"  {what:10} {median * 1000:8.1f} ms   {base / median:6.1f} x")


if __name__ == "__main__":
    main(*sys.argv[1:3])
