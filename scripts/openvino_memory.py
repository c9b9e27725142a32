"""Resident memory over many encodes of random shapes on OpenVINO.

    python scripts/openvino_memory.py MODEL [--encodes 20000] [--rows 8] [--words 60]

Each encode has 1 to `rows` texts of 1 to `words` words; one in four runs several batches at once.
Prints memory as it goes, and its growth after the first tenth.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import core

PROSE = "a river runs past the old mill where boats wait for spring and rain fills fields"
WORDS = tuple(PROSE.split())


def resident() -> float:
    """Resident memory of this process in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--encodes", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--words", type=int, default=60)
    arguments = parser.parse_args()
    choose = random.Random(0)
    model = core.load(arguments.model, backend="openvino")
    after_warm_up = 0.0
    highest = 0.0
    for number in range(1, arguments.encodes + 1):
        texts = [
            " ".join(choose.choices(WORDS, k=choose.randint(1, arguments.words)))
            for _ in range(choose.randint(1, arguments.rows))
        ]
        batch_size = 1 if number % 4 == 0 else None
        model.encode(texts, batch_size=batch_size, batch_tokens=choose.randint(64, 1_024))
        if number == arguments.encodes // 10:
            after_warm_up = resident()
        highest = max(highest, resident()) if number > arguments.encodes // 10 else 0.0
        if number % (arguments.encodes // 20) == 0:
            print(f"{number:6} encodes: {resident():.1f} MB", flush=True)
    print(
        f"after {arguments.encodes // 10}: {after_warm_up:.1f} MB, highest since {highest:.1f} MB"
    )


if __name__ == "__main__":
    main()
