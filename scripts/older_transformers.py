"""Run tests with the oldest supported major versions of transformers and huggingface_hub.

    python scripts/older_transformers.py                        # exports of every architecture
    python scripts/older_transformers.py tests/onnx -k pickle   # any arguments of pytest

The versions are those of the recipe transformers-4.57 in scripts/peers.py, whose environment is
built when it is missing. Tests of architectures that only newer versions have are not collected.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.peers import ROOT, build, versions

PEER = "transformers-4.57"
#: What older versions of transformers itself bring up; this library's own still fail a test.
WARNINGS = ("ignore:`torch.jit.script:DeprecationWarning",)
EXPORTS = ("tests/onnx/test_artifacts.py",)


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    python = build(PEER)
    installed = versions(PEER)
    names = ("transformers", "huggingface_hub", "torch", "onnxruntime")
    print(", ".join(f"{name} {installed[name]}" for name in names), flush=True)
    given = sys.argv[1:] or list(EXPORTS)
    quiet = [argument for warning in WARNINGS for argument in ("-W", warning)]
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *quiet, *given]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
