"""One file in the formats of sentence-transformers, made by its own exporters.

Runs in a peer's interpreter: `python peer_files.py onnx|openvino SOURCE TARGET FILE STEP`. Prints
its name, relative to the target.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Texts that static int8 finds its ranges with: as many as its quantizer takes.
_TEXTS = 300


def main(backend: str, source: str, target: str, file: str, step: str) -> None:
    from sentence_transformers import SentenceTransformer

    _keep_external_data()
    Path(target).mkdir(parents=True)
    if step == "export":
        model = SentenceTransformer(source, backend=backend, device="cpu")
        model.save_pretrained(target)
    else:
        arguments = {"file_name": Path(file).name}
        model = SentenceTransformer(source, backend=backend, device="cpu", model_kwargs=arguments)
        if step == "quantize static":
            _static(model, target)
        else:
            from sentence_transformers.backend import (
                export_dynamic_quantized_onnx_model,
                export_optimized_onnx_model,
            )

            operation, _, config = step.partition(" ")
            make = {
                "optimize": export_optimized_onnx_model,
                "quantize": export_dynamic_quantized_onnx_model,
            }[operation]
            make(model, config, target)
    made = sorted((Path(target) / backend).glob("*.onnx" if backend == "onnx" else "*.xml"))
    print(made[0].relative_to(target), flush=True)
    os._exit(0)  # runtimes take seconds to clean up, and some of them crash over it


def _keep_external_data() -> None:
    """Let weights of more than 2 GB come along with their graph.

    sentence-transformers moves and copies the file of an optimized graph alone, out of a temporary
    directory: the weights beside it would be lost, and the graph could not be loaded.
    """
    shutil.move = _with_weights(shutil.move)
    shutil.copy = _with_weights(shutil.copy)


def _with_weights(act: Callable[..., Any]) -> Any:
    def both(source: Any, target: Any, **options: Any) -> Any:
        weights = Path(f"{source}.data")
        if weights.exists():
            act(weights, f"{target}.data")
        return act(source, target, **options)

    return both


def _static(model: object, target: str) -> None:
    """Static int8, its ranges from slices of Python's language reference.

    Its default is a dataset of the Hub, which cannot be had without a network.
    """
    from pydoc_data.topics import topics

    from sentence_transformers.backend import export_static_quantized_openvino_model

    words = " ".join(topics[name] for name in sorted(topics)).split()
    step = len(words) // _TEXTS
    texts = [" ".join(words[n * step : n * step + 5 + n % 200]) for n in range(_TEXTS)]
    folder = Path(target) / "calibration"
    folder.mkdir()
    lines = "".join(json.dumps({"sentence": text}) + "\n" for text in texts)
    (folder / "train.jsonl").write_text(lines)
    export_static_quantized_openvino_model(
        model,
        None,
        target,
        dataset_name=str(folder),
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
