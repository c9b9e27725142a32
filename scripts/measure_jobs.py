"""What jobs over files cost: memory over many texts, and Ray against one process.

    python scripts/measure_jobs.py memory MODEL --backend onnx [--texts 1000000]
    python scripts/measure_jobs.py ray MODEL --backend onnx [--texts 20000] [--rounds 3]
    python scripts/measure_jobs.py actors MODEL --backend onnx --small TINY_MODEL \
        --model-kwargs '{"share_weights": true}'

`memory` embeds short texts with `core.embed_dataset` in this process, and prints resident memory
and rate after each tenth. `ray` compares the texts a second of two actors with one CPU each, after
they have started, with `encode_stream` in this process. `actors` tells what a second actor adds to
the memory of the node (proportional set size: a page that two processes share counts half for
each) once freed memory went back to the system, and how much of that is the model's: what it adds
with TINY_MODEL is the runtime's. The last two need an environment with core-ray. Linux only; the
figures hold for an idle machine.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import core

WORDS = (
    "river", "house", "green", "answer", "music", "seven", "light", "table", "winter", "stone",
    "letter", "garden", "window", "paper", "silver", "market", "doctor", "engine", "forest",
)  # fmt: skip
TENTHS = 10


def write_texts(target: Path, count: int, words: int) -> Path:
    """A text a line, all of them different, of up to so many words."""
    choose = random.Random(0)
    with target.open("w") as file:
        for number in range(count):
            picked = choose.choices(WORDS, k=choose.randint(2, words))
            file.write(f"{' '.join(picked)} {number}\n")
    return target


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def proportional_mb(pid: int) -> float:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss.")


class Told:
    """A runner that tells when the workers are ready, and what is done since.

    Attributes:
        seconds: Of the work, without the start of the workers.
        tenths: Rows, seconds and resident MB after each tenth of the rows.
    """

    def __init__(self, runner: Any, rows: int) -> None:
        self.runner, self.rows = runner, rows
        self.seconds = 0.0
        self.tenths: list[tuple[int, float, float]] = []

    @contextmanager
    def start(self, job: Any, model: Any, loading: Any) -> Iterator[Any]:
        with self.runner.start(job, model, loading) as workers:
            self.workers = workers
            yield self

    def identity(self) -> Any:
        return self.workers.identity()

    def make(self, parts: Any, identity: Any, tell: Any) -> Iterator[Any]:
        begun, done = time.monotonic(), 0

        def told(rows: int) -> None:
            nonlocal done
            done += rows
            if done >= self.rows * (len(self.tenths) + 1) / TENTHS:
                taken = time.monotonic() - begun
                self.tenths.append((done, taken, resident_mb()))
                print(
                    f"{done:>9,} texts: {done / taken:8,.0f} a second, "
                    f"{self.tenths[-1][2]:7.1f} MB resident",
                    flush=True,
                )
            tell(rows)

        yield from self.workers.make(parts, identity, told)
        self.seconds = time.monotonic() - begun


def measure_memory(parsed: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A job of many short texts in this process."""
    from core.batch.runner import InThisProcess

    source = write_texts(folder / "texts.txt", parsed.texts, 12)
    runner = Told(InThisProcess(), parsed.texts)
    core.embed_dataset(
        source, folder / "out", parsed.model, backend=parsed.backend, runner=runner,
        show_progress_bar=False,
    )  # fmt: skip
    grown = runner.tenths[-1][2] - runner.tenths[0][2]
    print(f"{parsed.texts / runner.seconds:,.0f} texts a second; memory grew by {grown:.1f} MB")
    return {"texts": parsed.texts, "seconds": runner.seconds, "tenths": runner.tenths}


def measure_ray(parsed: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Texts a second of two actors, as a share of `encode_stream`'s with the same CPUs."""
    import core_ray

    source = write_texts(folder / "texts.txt", parsed.texts, 40)
    texts = source.read_text().splitlines()
    shares = []
    for turn in range(parsed.rounds):
        with core.load(parsed.model, backend=parsed.backend) as model:
            model.encode(texts[:500])
            begun = time.monotonic()
            for _ in model.encode_stream(texts):
                pass
            alone = time.monotonic() - begun
        runner = Told(core_ray.Runner("local", actors=2, num_cpus=1), parsed.texts)
        core.embed_dataset(
            source, folder / f"out-{turn}", parsed.model, backend=parsed.backend, runner=runner,
            rows_per_part=max(1, parsed.texts // 16), show_progress_bar=False,
        )  # fmt: skip
        shares.append(alone / runner.seconds)
        print(
            f"one process {parsed.texts / alone:,.0f} texts a second, "
            f"Ray {parsed.texts / runner.seconds:,.0f}: {shares[-1]:.1%}",
            flush=True,
        )
    print(f"median {statistics.median(shares):.1%}")
    return {"texts": parsed.texts, "shares": shares}


def measure_actors(parsed: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a second actor adds to the node's memory, with the model and with a tiny one."""
    import ray

    import core_ray

    texts = write_texts(folder / "texts.txt", 500, 40).read_text().splitlines()

    @ray.remote(num_cpus=1)
    class Holder:
        def __init__(self, model: str, kwargs: dict[str, Any]) -> None:
            load = {"backend": parsed.backend, "model_kwargs": kwargs}
            self.embed = core_ray.Embed(model, load=load)

        def run(self) -> int:
            import numpy as np

            self.embed({"text": np.array(texts, object)})
            # What a batch took and gave back is the allocator's, and no copy of weights.
            ctypes.CDLL(None).malloc_trim(0)
            return os.getpid()

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    added: dict[str, float] = {}
    for name, model, kwargs in (
        ("model", parsed.model, parsed.model_kwargs), ("small", parsed.small, {})
    ):  # fmt: skip
        actors, pids, before = [], [], 0.0
        for _ in range(2):
            actors.append(Holder.remote(str(model), kwargs))  # type: ignore[attr-defined]
            pids.append(ray.get(actors[-1].run.remote()))
            now = sum(map(proportional_mb, pids))
            added[name], before = now - before, now
        for actor in actors:
            ray.kill(actor)
    ray.shutdown()
    with core.load(parsed.model, backend=parsed.backend) as loaded:
        file = loaded.source.path(str(loaded.file_name))
    weights = [file, file.with_suffix(".bin"), file.with_name(f"{file.name}_data")]
    size = sum(path.stat().st_size for path in dict.fromkeys(weights) if path.exists()) / 1e6
    share = (added["model"] - added["small"]) / size
    print(
        f"the model's file has {size:.1f} MB; a second actor adds {added['model']:.1f} MB, of "
        f"which {added['small']:.1f} MB are the runtime's: {share:.1%} of the file"
    )
    return {"file_mb": size, "added_mb": added, "share": share}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("memory", "ray", "actors"))
    parser.add_argument("model", type=Path, help="a model's directory")
    parser.add_argument("--backend", default="onnx")
    parser.add_argument("--texts", type=int, help="how many (1,000,000; for ray 20,000)")
    parser.add_argument("--rounds", type=int, default=3, help="of ray (3)")
    parser.add_argument("--small", type=Path, help="for actors: a tiny model of the same backend")
    parser.add_argument("--model-kwargs", type=json.loads, default={}, help="of MODEL, as JSON")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parsed = parser.parse_args()
    if parsed.what == "actors" and parsed.small is None:
        parser.error("actors needs --small TINY_MODEL")
    parsed.texts = parsed.texts or (20_000 if parsed.what == "ray" else 1_000_000)
    measures = {"memory": measure_memory, "ray": measure_ray, "actors": measure_actors}
    with tempfile.TemporaryDirectory() as folder:
        found = measures[parsed.what](parsed, Path(folder))
    if parsed.json:
        parsed.json.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
