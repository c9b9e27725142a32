"""Tiny models exported for ONNX Runtime, for tests in environments without PyTorch.

    python -m tests.export_tiny FOLDER NAME ...

A name is one of `tiny_models.SPECS` or `tiny_kinds.KINDS`; each gets a directory in FOLDER.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import core
from tests import tiny_kinds, tiny_models


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        build = tiny_kinds.build if name in tiny_kinds.KINDS else tiny_models.build
        build(name, target)
        core.export(target, backend="onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
