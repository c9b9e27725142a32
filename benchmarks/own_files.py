"""One file of ours: `python -m benchmarks.own_files FOLDER BACKEND SOURCE STEP [CONFIG]`.

Prints its name, relative to the folder.
"""

from __future__ import annotations

import sys

import core


def main(folder: str, backend: str, source: str, step: str, config: str = "") -> None:
    if step == "export":
        print(core.export(folder, folder, backend=backend).file_name)
        return
    with core.load(folder, backend=backend, file_name=source, export=False) as model:
        act = {"optimize": model.optimize, "quantize": model.quantize}[step]
        print(act(config, folder).file_name)


if __name__ == "__main__":
    main(*sys.argv[1:])
