"""What int8 gains over an older state of this repository, and how close and steady it is.

    python scripts/int8_against_base.py MODEL BASE [--rounds 7] [--sick FILE] [--output FILE]

MODEL is a directory with PyTorch weights, ONNX and OpenVINO files (`core.export` writes them). BASE
is a checkout of the commit to compare with (`git worktree add BASE COMMIT`). The defaults of
`core.quantize` are made by both; every system runs in a process of its own, and they take turns:
each encodes the same texts in every round, so that only ratios within a round count. Needs an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks.worker import open_sgemm  # noqa: E402
from scripts.openvino_quantization import cosines, prose, spearman_on_sick  # noqa: E402

#: Words and number of the texts of each length.
LENGTHS = {"short": (12, 400), "middle": (110, 60), "long": (400, 24)}
_ALONE = 60
#: Set in the environment of a process that is to make files as for a processor with AVX2 only.
AVX2_ONLY = "INT8_SCRIPTS_AVX2_ONLY"
_NEIGHBOURS = 10


@dataclass(frozen=True)
class System:
    """A file, and whose code makes and runs it.

    Attributes:
        name: In the table.
        backend: That runs it.
        config: Of `core.quantize`; None for its default, "" for the model's own file.
        base: Whether the older state does it.
    """

    name: str
    backend: str
    config: str | None
    base: bool = False


SYSTEMS = (
    System("onnx fp32", "onnx", ""),
    System("onnx int8, base", "onnx", None, base=True),
    System("onnx int8", "onnx", None),
    System("openvino fp32", "openvino", ""),
    System("openvino int8 weights, base", "openvino", "int8-weights", base=True),
    System("openvino int8, base", "openvino", None, base=True),
    System("openvino int8", "openvino", None),
    System("openvino fastest", "openvino", "fastest"),
    System("openvino closest", "openvino", "closest"),
    System("torch fp32", "torch", ""),
    System("torch int8, base", "torch", None, base=True),
    System("torch int8", "torch", None),
)


def serve(folder: str, backend: str, config: str) -> None:
    """Load a file and answer requests: lines of JSON on standard input and output."""
    if os.environ.get(AVX2_ONLY):
        _hide_instructions()
    import core

    usual = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
    file = usual.get(backend)
    with core.load(folder, backend=backend, file_name=file, device="cpu") as model:
        if config != "":
            chosen = None if config == "default" else config
            with tempfile.TemporaryDirectory() as target:
                artifact = core.quantize(model, chosen, target, file_suffix="compared")
                answer(artifact.load(device="cpu"))
        else:
            answer(model)


def _hide_instructions() -> None:
    """Have core see a processor with AVX2 only; backends take the function from its module."""
    import core.machine.processor as processor

    found = processor.processor_flags()
    seen = frozenset(f for f in found if not f.startswith(("avx512", "avx_vnni", "avxvnni", "amx")))
    processor.processor_flags = lambda: seen  # type: ignore[assignment]


def answer(model: Any) -> None:
    """Encode what each request names, and say how long it took or where the result lies."""
    print(json.dumps("ready"), flush=True)
    texts: dict[str, list[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "texts" in request:
            texts[request["name"]] = request["texts"]
            print(json.dumps("kept"), flush=True)
            continue
        given: list[Any] = texts[request["name"]]
        start = time.perf_counter()
        if request.get("alone"):
            found = np.stack([model.encode(text) for text in given])
        else:
            found = model.encode(given)
        seconds = time.perf_counter() - start
        if "save" in request:
            np.save(request["save"], found)
        print(json.dumps(seconds), flush=True)


class Process:
    """A system in a process of its own."""

    def __init__(
        self, system: System, folder: Path, base: Path, switches: Mapping[str, str] | None = None
    ) -> None:
        code = base if system.base else ROOT
        paths = [code, *sorted((code / "plugins").glob("*/src"))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        environment.update(switches or {})
        config = "default" if system.config is None else system.config
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--serve",
            str(folder),
            system.backend,
            config,
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()

    def ask(self, **request: Any) -> Any:
        """The answer to a request."""
        pipe = cast(TextIO, self._process.stdin)
        pipe.write(json.dumps(request) + "\n")
        pipe.flush()
        return self._read()

    def encode(self, texts: list[str], *, alone: bool = False) -> NDArray[np.float32]:
        """Embeddings of these texts, in batches or one by one."""
        with tempfile.TemporaryDirectory() as scratch:
            place = str(Path(scratch) / "found.npy")
            self.ask(name="once", texts=texts)
            self.ask(name="once", save=place, alone=alone)
            found: NDArray[np.float32] = np.load(place)
        return found

    def close(self) -> None:
        cast(TextIO, self._process.stdin).close()
        self._process.wait()

    def _read(self) -> Any:
        line = cast(TextIO, self._process.stdout).readline()
        if not line:
            raise SystemExit("A process ended; its error stands above.")
        return json.loads(line)


class Encoder:
    """A process as what `spearman_on_sick` takes."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return self._process.encode(texts)


def operations(folder: Path, texts: list[str]) -> float:
    """Floating-point operations of the matrix products of a text on average, without padding."""
    import core

    with core.load(folder, backend="onnx", file_name="onnx/model.onnx") as model:
        config = model.source.architecture.config
        lengths = [len(model.tokenize([text])["input_ids"][0]) for text in texts]
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    weights = 4 * hidden * hidden + 2 * hidden * config["intermediate_size"]
    each = [2 * n * weights * layers + 4 * n * n * hidden * layers for n in lengths]
    return float(np.mean(each))


def recall(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The share of each text's nearest neighbours that stay among them."""
    shares = []
    nearest = []
    for rows in (expected, found):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(np.argsort(-scores, axis=1)[:, :_NEIGHBOURS])
    for first, second in zip(*nearest, strict=True):
        shares.append(len(set(first) & set(second)) / _NEIGHBOURS)
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=500, help="that fidelity is told by")
    parser.add_argument("--sick", type=Path)
    parser.add_argument("--only", nargs="+", help="names of systems; fp32 is always measured")
    parser.add_argument("--output", type=Path, help="JSON of every time")
    arguments = parser.parse_args()
    chosen = [
        system
        for system in SYSTEMS
        if not arguments.only or system.config == "" or system.name in arguments.only
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        shutil.copytree(arguments.model, folder)
        running = {system.name: Process(system, folder, arguments.base) for system in chosen}
        measured, speed = speeds(running, arguments.rounds)
        flops = {
            length: operations(folder, prose_of(words, 20))
            for length, (words, _) in LENGTHS.items()
        }
        print(f"float32 peak {speed / 1e9:.0f} GFLOP/s; medians of {arguments.rounds} rounds")
        print_speeds(measured, flops, speed)
        print_fidelity(running, prose(arguments.texts, seed=11), arguments.sick)
        for process in running.values():
            process.close()
    if arguments.output:
        arguments.output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def prose_of(words: int, count: int) -> list[str]:
    """Texts of so many words, all different."""
    pool = " ".join(prose(400, seed=5)).split()
    return [" ".join(pool[i * 7 % (len(pool) - words) :][:words]) for i in range(count)]


def speeds(
    running: dict[str, Process], rounds: int
) -> tuple[dict[str, dict[str, list[float]]], float]:
    """Seconds of each round, by length and system; and the peak, taken in every round."""
    best, product = 0.0, open_sgemm({})
    measured: dict[str, dict[str, list[float]]] = {}
    for length, (words, count) in LENGTHS.items():
        for process in running.values():
            process.ask(name=length, texts=prose_of(words, count))
            process.ask(name=length)  # kernels and second sessions are made in the first call
        times: dict[str, list[float]] = {name: [] for name in running}
        for number in range(rounds):
            order = list(running)[:: 1 if number % 2 else -1]
            best = max(best, 1e9 * product([], None))
            for name in order:
                times[name].append(running[name].ask(name=length))
        measured[length] = times
    return measured, best


def print_speeds(
    measured: dict[str, dict[str, list[float]]], flops: dict[str, float], peak_speed: float
) -> None:
    """Texts a second, the median ratio to the same backend's base, and the share of the peak."""
    print("| | " + " | ".join(f"{length}: texts/s, x base, of peak" for length in measured) + " |")
    print("| --- |" + " ---: |" * len(measured))
    for system in SYSTEMS:
        cells = []
        for length, times in measured.items():
            if system.name not in times:
                break
            own = np.array(times[system.name])
            count = LENGTHS[length][1]
            against = times.get(f"{system.backend} int8, base")
            ratio = f"{np.median(np.array(against) / own):.2f}" if against else "-"
            share = count / np.median(own) * flops[length] / peak_speed
            cells.append(f"{count / np.median(own):.1f}, {ratio}, {share:.0%}")
        if cells:
            print(f"| {system.name} | " + " | ".join(cells) + " |")


def print_fidelity(running: dict[str, Process], texts: list[str], sick: Path | None) -> None:
    """Cosine to fp32, neighbours, SICK, and each text alone against in a batch."""
    expected = running["torch fp32"].encode(texts)
    print("| | mean | 1st percentile | minimum | recall@10 | SICK | alone: cosine, difference |")
    print("| --- |" + " ---: |" * 6)
    for name, process in running.items():
        found = process.encode(texts)
        drift = cosines(found, expected)
        few = texts[:_ALONE]
        alone, together = process.encode(few, alone=True), process.encode(few)
        ranked = spearman_on_sick(cast(Any, Encoder(process)), sick, None)
        print(
            f"| {name} | {drift.mean():.4f} | {np.percentile(drift, 1):.4f} | {drift.min():.4f} | "
            f"{recall(expected, found):.3f} | {ranked:.2f} | "
            f"{cosines(alone, together).min():.6f}, {np.abs(alone - together).max():.5f} |",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
