"""ONNX Runtime on CUDA: the exported graph and O4, with outputs bound to the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.agreement import compare
from benchmarks.gpu.models import model
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import NotHereError, Row, in_words
from benchmarks.gpu.systems import load_core
from benchmarks.gpu.texts import Vocabulary

_PROVIDER = "CUDAExecutionProvider"
_FILES = {"onnx/model.onnx": "float32", "onnx/model_O4.onnx": "float16"}


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each file and way of pooling.

    "bound": the token embeddings stay in the device's memory, are pooled there by a second graph,
    and only [batch, dimension] comes back. "copied": they come back and are pooled by numpy.
    """
    if not setting.on_gpu:
        raise NotHereError("the execution provider of CUDA needs a CUDA device")
    check_runtime()
    plan = setting.plan
    name, shape = next(iter(plan.shapes.items()))
    source = model(setting, "bert", shape)
    texts = Vocabulary(plan.vocabulary).texts(min(plan.texts, 8_192))
    with load_core(source, setting.device, dtype="float32") as opened:
        expected = opened.encode(texts)
    folder = _exported(setting, source)
    for file, dtype in _FILES.items():
        for pooled in ("bound", "copied"):
            row: Row = {"shape": name, "file": file, "pooled": pooled, "texts": len(texts)}
            try:
                row |= _one(setting, folder, file, dtype, pooled, texts, expected)
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            yield row


def check_runtime() -> None:
    """Raise `NotHereError` unless ONNX Runtime is installed with CUDA."""
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise NotHereError("onnx or onnxruntime-gpu is not installed: pip install core[onnx-gpu]")
    import onnxruntime

    found = onnxruntime.get_available_providers()
    if _PROVIDER not in found:
        raise NotHereError(
            f"onnxruntime {onnxruntime.__version__} has no {_PROVIDER}, only {', '.join(found)}: "
            "onnxruntime-gpu is not installed"
        )


def _exported(setting: Setting, source: Path) -> Path:
    """A folder with both files, made beside the model once."""
    import core

    folder = source.with_name(f"{source.name}-onnx")
    if not (folder / "onnx/model.onnx").exists():
        core.export(source, folder, backend="onnx")
    if not (folder / "onnx/model_O4.onnx").exists():
        with core.load(folder, backend="onnx", device=setting.device) as opened:
            core.optimize(opened, "O4", folder)
    return folder


def _one(
    setting: Setting,
    folder: Path,
    file: str,
    dtype: str,
    pooled: str,
    texts: list[str],
    expected: Any,
) -> dict[str, Any]:
    import core

    with core.load(folder, backend="onnx", device=setting.device, file_name=file) as opened:

        def encode(some: list[str]) -> Any:
            if pooled == "bound":
                return opened.encode(some)
            tokens = opened.encode(some, output_value="token_embeddings")
            means = np.stack([one.mean(0) for one in tokens])
            return means / np.linalg.norm(means, axis=1, keepdims=True)

        encode(texts)
        start = time.perf_counter()
        found = encode(texts)
        took = time.perf_counter() - start
        row = {"device": opened.device, "texts_per_second": len(texts) / took}
    return row | compare(np.asarray(found, dtype=np.float32), expected, dtype)
