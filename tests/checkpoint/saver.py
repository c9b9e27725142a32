"""Saves one model over and over, to be killed; run by test_interruptions.

    python -m tests.checkpoint.saver MODEL_A MODEL_B TARGET ROUNDS

Forks a child that saves A and B to TARGET in turn, kills it at a random moment, and checks that
TARGET is wholly one of them. Prints how many rounds ended as A and as B. Numpy only: a fork with
the threads of torch would not be safe.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import core
from tests.checkpoint.numpy_backend import register


def digest(folder: Path) -> str:
    """Names and contents of every file."""
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        state.update(f"{path.relative_to(folder)}:{len(content)}:".encode() + content)
    return state.hexdigest()


def main(first: str, second: str, target: str, rounds: int) -> None:
    register()
    models = [core.load(name, backend="numpy") for name in (first, second)]
    whole = {}
    start = time.perf_counter()
    for label, model in zip("AB", models, strict=True):
        model.save(target)
        whole[digest(Path(target))] = label
    duration = (time.perf_counter() - start) / 2
    assert len(whole) == 2, "both models look the same"
    ended = {"A": 0, "B": 0}
    chance = random.Random(0)
    for number in range(rounds):
        child = os.fork()
        if child == 0:
            while True:
                for model in models:
                    model.save(target)
        time.sleep(chance.uniform(0, 3 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = whole.get(digest(Path(target)))
        if found is None:
            names = sorted(str(p) for p in Path(target).rglob("*"))
            raise SystemExit(f"round {number}: neither the old nor the new directory: {names}")
        ended[found] += 1
    models[0].save(target)
    left = [p.name for p in Path(target).parent.iterdir() if p.name.startswith(".core-")]
    print(f"A {ended['A']} B {ended['B']} left {left}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
