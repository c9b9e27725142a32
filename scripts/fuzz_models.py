"""Damage model directories in thousands of ways and see that each load ends well.

    python scripts/fuzz_models.py                                  # 3,000 mutants
    python scripts/fuzz_models.py --mutants 300 --backend onnx     # fewer, on one backend
    python scripts/fuzz_models.py --only 1234                      # one of them again

Every mutant is a copy of a tiny model with one file changed: values of a configuration replaced,
keys removed or doubled, bytes flipped, files truncated, replaced by a link, a pipe or a directory.
Loading it and embedding three texts must end in embeddings of the right shape or in a `CoreError`,
in bounded time and memory; a change that means nothing must change nothing. Mutant N of a seed is
always the same one. The exit code is 1 if any ended otherwise.

"unexplained" lists errors that are `CoreError`s only because core caught what a library raised:
their messages are for the author of the library, not for the owner of the file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core
from tests.checkpoint.dialects import dense_in_pickle, static_table
from tests.conftest import build_tiny_model

BACKENDS = ("torch", "onnx", "openvino")
MODELS = ("bert", "vocabulary", "dense", "static")
TEXTS = ["a fox", "embeddings turn sentences into vectors", ""]
_GIGABYTE = 2**30

# The models


def build(name: str, folder: Path) -> None:
    """One of `MODELS`, with a file for every backend."""
    if name == "static":
        static_table(folder)
        return
    if name == "dense":
        dense_in_pickle(folder)
    else:
        shutil.copytree(build_tiny_model("bert-mean"), folder)
    if name == "vocabulary":
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        words = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        (folder / "tokenizer.json").unlink()
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "BertTokenizer"
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for backend in ("onnx", "openvino"):
        core.export(folder, backend=backend)


# The mutations: each changes one file and says what it did, or None where it does not apply


class Deep:
    """Too deeply nested for any parser."""


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 2**31, 2**63, -(2**40), 10**30, 1e308, float("nan"),
    float("inf"), "", "x", "../x", "/etc/passwd", "é" * 50, "x" * 100_000, [], [[]], [1, "a", None],
    {}, {"a": {"b": []}}, Deep,
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of a JSON document."""
    found = [path] if path else []
    inner: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, child in list(inner)[:200]:
        found += _places(child, (*path, key))
    return found


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def replace_value(path: Path, chance: random.Random) -> str | None:
    """Another value, often of another type."""
    document = _document(path)
    places = _places(document)
    if not places:
        return None
    place, value = chance.choice(places), chance.choice(VALUES)
    mark = "@@deep@@"
    _at(document, place[:-1])[place[-1]] = mark if value is Deep else value
    text = json.dumps(document)
    path.write_text(text.replace(f'"{mark}"', "[" * 5000 + "]" * 5000))
    shown = "5,000 arrays" if value is Deep else repr(value)[:40]
    return f"{'.'.join(map(str, place))} = {shown}"


def remove_key(path: Path, chance: random.Random) -> str | None:
    """A value gone."""
    document = _document(path)
    places = _places(document)
    if not places:
        return None
    place = chance.choice(places)
    del _at(document, place[:-1])[place[-1]]
    path.write_text(json.dumps(document))
    return f"without {'.'.join(map(str, place))}"


def double_key(path: Path, chance: random.Random) -> str | None:
    """A key twice, the second time with another value."""
    document = _document(path)
    if not isinstance(document, dict) or not document:
        return None
    key, value = chance.choice(list(document)), chance.choice([v for v in VALUES if v is not Deep])
    inner = json.dumps(document)[:-1]
    path.write_text(f"{inner}, {json.dumps(key)}: {json.dumps(value)}}}")
    return f"{key} twice, then {value!r:.40}"


def rewrite(path: Path, chance: random.Random) -> str | None:
    """The same document, written in another way: a change that means nothing."""
    document = _document(path)
    if document is None:
        return None
    if isinstance(document, dict) and path.name != "tokenizer.json":
        document = dict(sorted(document.items(), reverse=True))
    path.write_text(json.dumps(document, indent=chance.choice([0, 1, 3])) + "\n\n")
    return "written in another way"


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.suffix == ".json" else None
    except ValueError:
        return None


def flip_bytes(path: Path, chance: random.Random) -> str:
    """A few bytes changed, often among the first."""
    data = bytearray(path.read_bytes())
    end = chance.choice([8, 200, 2000, len(data)])
    count = chance.choice([1, 1, 4, 50])
    for _ in range(count):
        if data:
            data[chance.randrange(min(end, len(data)))] = chance.randrange(256)
    path.write_bytes(data)
    return f"{count} bytes of the first {end} changed"


def cut(path: Path, chance: random.Random) -> str:
    """The end missing."""
    size = path.stat().st_size
    left = chance.choice([0, 1, 7, 8, size // 2, max(size - 1, 0), chance.randrange(size + 1)])
    os.truncate(path, min(left, size))
    return f"cut to {min(left, size)} of {size} bytes"


def extend(path: Path, chance: random.Random) -> str:
    """Something after the end."""
    more = chance.choice([b"\0", b"\0" * 4096, b"x", b"\n{}", bytes(range(256)), b"\xff" * 9])
    with path.open("ab") as file:
        file.write(more)
    return f"{len(more)} bytes appended"


def overwrite(path: Path, chance: random.Random) -> str:
    """Another kind of file in its place."""
    content = chance.choice(
        [
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            b"<html><body>404</body></html>", b"PK\x03\x04" + b"\0" * 100, b"null", b"[]", b"{}",
            b"\x80\x04K\x01.", b"\xff" * 64, b"\0" * 64, b"[" * 100_000, b'"x"', b"NaN",
        ]
    )  # fmt: skip
    path.write_bytes(content)
    return f"replaced by {content[:24]!r}"


def repeat_lines(path: Path, chance: random.Random) -> str | None:
    """Lines of a text removed, doubled or joined."""
    if path.suffix not in (".txt", ".xml"):
        return None
    lines = path.read_bytes().split(b"\n")
    at = chance.randrange(len(lines))
    what = chance.choice(["removed", "doubled", "joined to the next", "made 100,000 characters"])
    if what == "removed":
        del lines[at]
    elif what == "doubled":
        lines.insert(at, lines[at])
    elif what == "joined to the next":
        lines[at : at + 2] = [b"".join(lines[at : at + 2])]
    else:
        lines[at] = b"y" * 100_000
    path.write_bytes(b"\n".join(lines))
    return f"line {at} {what}"


def replace_number(path: Path, chance: random.Random) -> str | None:
    """A number of an .xml file, or in the header of a safetensors file, changed."""
    import re

    data = path.read_bytes()
    if path.suffix not in (".xml", ".safetensors"):
        return None
    end = len(data) if path.suffix == ".xml" else 8 + int.from_bytes(data[:8], "little")
    numbers = list(re.finditer(rb"\d+", data[:end]))
    if not numbers:
        return None
    found = chance.choice(numbers)
    length = len(found[0])
    new = chance.choice([b"0", b"9" * length, b"1" * length, b"-1"]).rjust(length, b"0")[:length]
    path.write_bytes(data[: found.start()] + new + data[found.end() :])
    return f"{found[0].decode()} at byte {found.start()} is {new.decode()}"


def remove(path: Path, chance: random.Random) -> str:
    """No file."""
    path.unlink()
    return "removed"


def no_plain_file(path: Path, chance: random.Random) -> str:
    """A directory, a link or a pipe in its place."""
    what = chance.choice(["directory", "pipe", "link outside", "dangling link", "link to itself"])
    path.unlink()
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        to = {"link outside": "/etc/passwd", "dangling link": "absent"}.get(what, path.name)
        path.symlink_to(to)
    return f"a {what}"


def add_beside(path: Path, chance: random.Random) -> str:
    """A file that belongs to nothing, beside it: a change that means nothing."""
    name = chance.choice(["notes.txt.bak", ".DS_Store", "Thumbs.db", "run.log", ".gitattributes"])
    (path.parent / name).write_bytes(b"\0\1\2 of no meaning")
    return f"{name} beside it"


Mutation = Callable[[Path, random.Random], str | None]
MUTATIONS: tuple[Mutation, ...] = (
    replace_value, replace_value, replace_value, replace_value, remove_key, double_key,
    flip_bytes, flip_bytes, cut, extend, overwrite, repeat_lines, repeat_lines, replace_number,
    replace_number, remove, no_plain_file, rewrite, add_beside,
)  # fmt: skip
NEUTRAL = (rewrite, add_beside)


@dataclass(frozen=True)
class Mutant:
    """What was done to which file of which model."""

    number: int
    backend: str
    model: str
    file: str
    what: str
    neutral: bool

    def __str__(self) -> str:
        return f"{self.number:5} {self.backend:8} {self.model}/{self.file}: {self.what}"


def mutate(number: int, seed: int, backends: list[str], models: Path, folder: Path) -> Mutant:
    """Copy a model to `folder` and change one file; the same for the same number and seed."""
    chance = random.Random(f"{seed}-{number}")
    backend, model = chance.choice(backends), chance.choice(MODELS)
    shutil.copytree(models / model, folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    # What another backend loads is not read.
    foreign = {"torch": ("onnx/", "openvino/"), "onnx": ("openvino/",), "openvino": ("onnx/",)}
    names = [name for name in names if not name.startswith(foreign[backend])]
    what = None
    while what is None:
        file, mutation = chance.choice(names), chance.choice(MUTATIONS)
        what = mutation(folder / file, chance)
    return Mutant(number, backend, model, file, what, mutation in NEUTRAL)


# The runs, in processes of their own


def work(connection: Connection, backend: str, memory: int) -> None:
    """Answer each directory with what became of it."""
    import logging

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    logging.disable(logging.WARNING)
    first = connection.recv()
    attempt(first, backend)  # imports the runtime, whose mappings do not count
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while (folder := connection.recv()) is not None:
        connection.send(attempt(folder, backend))


def attempt(folder: str, backend: str) -> tuple[str, Any]:
    """("embeddings", array), ("CoreError", message) or ("other", what was raised)."""
    try:
        with core.load(folder, backend=backend, device="cpu", export=False) as model:
            return "embeddings", model.encode(TEXTS)
    except core.CoreError as error:
        return "CoreError", f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "other", f"{type(error).__name__}: {error}"


class Worker:
    """A process that loads models with one backend, started again after a crash."""

    def __init__(self, backend: str, warm: Path, memory: int) -> None:
        self.backend, self.warm, self.memory = backend, str(warm), memory
        self.process: Any = None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        self.process = context.Process(
            target=work, args=(there, self.backend, self.memory), daemon=True
        )
        self.process.start()
        there.close()
        self.connection.send(self.warm)
        assert self.connection.recv() == "ready"

    def run(self, folder: Path, seconds: float) -> tuple[str, Any]:
        if self.process is None or not self.process.is_alive():
            self.start()
        try:
            self.connection.send(str(folder))
            if self.connection.poll(seconds):
                answer: tuple[str, Any] = self.connection.recv()
                return answer
            self.stop()
            return "other", f"no answer in {seconds:.0f} s"
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            self.process = None
            return "other", f"the process ended with {code}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


#: In the message of an error that core did not raise by itself.
_INSIDE = (
    "failed with",
    "The runtime failed",
    "Error:",
    "has no attribute",
    "unhashable",
)


def judge(mutant: Mutant, outcome: str, result: Any, expected: np.ndarray) -> str:
    """ "equal", "different", "refused", "unexplained" or "violation"."""
    if outcome == "other":
        return "violation"
    if outcome == "CoreError":
        if mutant.neutral:
            return "violation"
        message = result.partition(": ")[2]
        return "unexplained" if any(words in message for words in _INSIDE) else "refused"
    whole = isinstance(result, np.ndarray) and result.dtype == np.float32 and result.ndim == 2
    if not whole or len(result) != len(TEXTS):
        return "violation"
    if result.shape == expected.shape and np.allclose(result, expected, atol=1e-5):
        return "equal"
    return "violation" if mutant.neutral else "different"


def _describe(embeddings: np.ndarray) -> str:
    finite = "" if np.isfinite(embeddings).all() else ", not finite"
    return f"{embeddings.shape} {embeddings.dtype}{finite}"


def run(arguments: argparse.Namespace) -> int:
    """Every mutant; prints those that ended badly and a summary."""
    counts: Counter[tuple[str, str]] = Counter()
    numbers = [arguments.only] if arguments.only is not None else range(arguments.mutants)
    with tempfile.TemporaryDirectory(prefix="core-fuzz-") as temporary:
        models = Path(temporary) / "models"
        for name in MODELS:
            build(name, models / name)
        memory = int(arguments.memory * _GIGABYTE)
        workers = {b: Worker(b, models / "bert", memory) for b in BACKENDS}
        expected: dict[tuple[str, str], np.ndarray] = {}
        for number in numbers:
            folder = Path(temporary) / "mutant"
            mutant = mutate(number, arguments.seed, arguments.backend, models, folder)
            worker, key = workers[mutant.backend], (mutant.backend, mutant.model)
            if key not in expected:
                outcome, expected[key] = worker.run(models / mutant.model, 600)
                assert outcome == "embeddings", expected[key]
            outcome, result = worker.run(folder, arguments.timeout)
            verdict = judge(mutant, outcome, result, expected[key])
            counts[mutant.backend, verdict] += 1
            shown = result if isinstance(result, str) else _describe(result)
            if verdict == "violation" or arguments.only is not None or verdict in arguments.show:
                print(f"{verdict}: {mutant}\n      {shown[:600]}", flush=True)
            shutil.rmtree(folder)
        for worker in workers.values():
            worker.stop()
    verdicts = ("equal", "different", "refused", "unexplained", "violation")
    print("  ".join(["backend ", *verdicts]))
    for backend in arguments.backend:
        row = (str(counts[backend, verdict]).rjust(len(verdict)) for verdict in verdicts)
        print("  ".join([f"{backend:8}", *row]))
    return 1 if any(counts[backend, "violation"] for backend in BACKENDS) else 0


def main(words: list[str] | None = None) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before a process imports what reads it
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", action="append", choices=BACKENDS, default=None)
    parser.add_argument("--only", type=int, help="the number of one mutant")
    parser.add_argument("--show", action="append", default=[], help="also print: unexplained, ...")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a mutant")
    parser.add_argument("--memory", type=float, default=3, help="GB that a mutant may take")
    arguments = parser.parse_args(words)
    arguments.backend = arguments.backend or list(BACKENDS)
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
