"""`python -m benchmarks.gpu`, on a machine where core is not installed."""

from __future__ import annotations

import sys

from benchmarks.gpu.bare import ROOT, findable


def main() -> int:
    with findable():
        try:
            from benchmarks.gpu import run

            run.prepare()
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            if not missing or (ROOT / missing).is_dir():  # of this repository
                raise
            print(
                f"{sys.executable} has no {missing}. It needs PyTorch, transformers, tokenizers, "
                "safetensors and numpy; `make gpu-bundle` brings pluggy, filelock and tqdm. "
                "`make gpu GPU_PYTHON=...` takes another interpreter.",
                file=sys.stderr,
            )
            return 2
        return run.main()


if __name__ == "__main__":  # a section's process may import this
    sys.exit(main())
