"""The files that systems load, made where they are missing, each in a process of its own.

A model of 567 million parameters takes 2.3 GB for each float32 file and several times that of
memory while it is made: a process gives the memory back, and files can be removed again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import environment
from scripts.peers import build

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".cache" / "benchmarks"

#: Seconds that making one file may take.
PATIENCE = 1_800.0
_WEIGHTS = "model.safetensors"
_EXPORTED = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
#: In a model's folder: which files were made, and how.
_INDEX = "files.json"
#: What is not copied from a model's folder to another's.
DERIVED = shutil.ignore_patterns(
    "onnx", "openvino", "model_q*", "*.json.part", _INDEX, "quantized*"
)


class FileFailedError(RuntimeError):
    """A file could not be made; the message has the last words of the process that tried."""


@dataclass(frozen=True)
class Recipe:
    """How a file comes about.

    Attributes:
        backend: "torch", "onnx" or "openvino".
        steps: After the export, one after the other: an operation and its configuration, as in
            `("optimize O2", "quantize auto")`.
        environment: Of the peer whose exporters make it (scripts/peers.py), "" for our own.
    """

    backend: str
    steps: tuple[str, ...] = ()
    environment: str = ""

    @property
    def keys(self) -> list[str]:
        """Of this file and of those that it is made from, the export first."""
        return [" ".join([self.backend, *self.steps[:n]]) for n in range(len(self.steps) + 1)]

    def folder(self, model: Path) -> Path:
        """Where it lies: peers have a folder beside the model's."""
        return model.with_name(f"{model.name}-{self.environment}") if self.environment else model


@dataclass
class _Index:
    """Files of one folder, by the key of their recipe; on disk after every change."""

    folder: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> _Index:
        file = folder / _INDEX
        return cls(folder, json.loads(file.read_text()) if file.exists() else {})

    def write(self) -> None:
        staging = self.folder / f"{_INDEX}.part"
        staging.write_text(json.dumps(self.entries, indent=1))
        staging.replace(self.folder / _INDEX)


def make(model: Path, recipe: Recipe, patience: float = PATIENCE) -> tuple[Path, str]:
    """A model's folder and a file in it, relative to it, by a recipe; made where it is missing.

    Args:
        patience: Seconds for each process that makes one.

    Raises:
        FileFailedError: It could not be made, or not in time.
    """
    folder = recipe.folder(model)
    if recipe.backend == "torch" and not recipe.steps:
        return model, _WEIGHTS
    index = _Index.of(folder)
    for number, key in enumerate(recipe.keys):
        if key == "torch" or key in index.entries:
            continue
        source = _WEIGHTS
        if number and recipe.keys[number - 1] in index.entries:
            source = index.entries[recipe.keys[number - 1]]["file"]
        step = recipe.steps[number - 1] if number else "export"
        before = _files(folder)
        if recipe.environment:
            file = _peer_step(model, folder, recipe, step, source, patience)
        else:
            arguments = [str(folder), recipe.backend, source, *step.split(" ", 1)]
            command = [sys.executable, "-m", "benchmarks.own_files", *arguments]
            file = _run(command, ROOT, patience, f"{model.name}: {key}")
        made = sorted(name for name, at in _files(folder).items() if before.get(name) != at)
        index.entries[key] = {"file": file, "made": made}
        index.write()
    return folder, str(index.entries[recipe.keys[-1]]["file"])


def _files(folder: Path) -> dict[str, int]:
    """Every file, and when it was written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def _peer_step(
    model: Path, folder: Path, recipe: Recipe, step: str, source: str, patience: float
) -> str:
    """A file that a peer makes, in a folder beside first: what it writes appears whole."""
    python = build(recipe.environment)
    staging, base = (folder.with_name(f"{folder.name}.{part}") for part in ("part", "source"))
    for leftover in (staging, base):
        shutil.rmtree(leftover, ignore_errors=True)
    given = folder
    if step == "export":
        # Without our exports beside the weights, which it would load instead of making its own.
        shutil.copytree(model, base, ignore=DERIVED)
        given = base
    script = str(Path(__file__).with_name("peer_files.py"))
    command = [str(python), script, recipe.backend, str(given), str(staging), source, step]
    try:
        file = _run(command, WORK, patience, f"{folder.name}: {recipe.backend} {step}")
        if step == "export":
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        else:
            for path in (staging / recipe.backend).iterdir():
                path.replace(folder / recipe.backend / path.name)
    finally:
        for leftover in (staging, base):
            shutil.rmtree(leftover, ignore_errors=True)
    return file


def _run(command: Sequence[str], where: Path, patience: float, what: str) -> str:
    """The last line that it prints."""
    try:
        done = subprocess.run(
            command,
            cwd=where,
            env=environment(command[0]),
            capture_output=True,
            text=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        raise FileFailedError(f"slower than {patience:.0f} seconds: {what}") from None
    if done.returncode:
        raise FileFailedError(f"{what}: exit code {done.returncode}\n{done.stderr[-3_000:]}")
    return done.stdout.splitlines()[-1]


def remove(model: Path, recipes: Collection[Recipe], keep: Collection[Recipe]) -> None:
    """Remove the files of recipes, but those that others are made from or are themselves."""
    kept = {(recipe.folder(model), key) for recipe in keep for key in recipe.keys}
    for recipe in recipes:
        folder = recipe.folder(model)
        index = _Index.of(folder)
        for key in recipe.keys:
            if (folder, key) in kept or key not in index.entries:
                continue
            entry = index.entries.pop(key)
            index.write()  # first: a file without an entry is made again, not the other way round
            for name in entry["made"]:
                (folder / name).unlink(missing_ok=True)


def exported(model: Path, backend: str) -> str:
    """Our float32 file for a backend, relative to the model's folder."""
    return make(model, Recipe(backend))[1]


def int8_file(model: Path) -> str:
    """The int8 file for ONNX Runtime that `core.quantize` makes on this processor."""
    return make(model, Recipe("onnx", ("quantize auto",)))[1]


def write_settings(folder: Path, changes: Mapping[str, Mapping[str, object]]) -> None:
    """Change entries of JSON files in a model's folder."""
    for name, change in changes.items():
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**content, **change}))
