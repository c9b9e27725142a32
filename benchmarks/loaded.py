"""Our own models in this process, for curves over what `encode` is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.model_files import exported
from benchmarks.progress import say

BACKENDS = ("onnx", "openvino", "torch")
_DEVICES = {"onnx": "cpu", "openvino": "CPU", "torch": "cpu"}


def load(folder: Path, backend: str, file_name: str = "") -> Any:
    """A model that has been used once, float32 unless the file is another."""
    import core

    if not file_name:
        file_name = "model.safetensors" if backend == "torch" else exported(folder, backend)
    model = core.load(folder, backend=backend, device=_DEVICES[backend], file_name=file_name)
    model.encode(["warm up"] * 3 + ["and another"])
    return model


@contextmanager
def loaded(
    folder: Path, failures: dict[str, str], backends: Sequence[str] = BACKENDS
) -> Iterator[dict[str, Any]]:
    """The model on each backend; one that cannot be loaded goes to the failures."""
    with ExitStack() as stack:
        models = {}
        for backend in backends:
            try:
                models[backend] = stack.enter_context(load(folder, backend))
            except Exception as error:
                record(failures, backend, error)
        yield models


def record(failures: dict[str, str], name: str, error: Exception) -> None:
    """Say and keep what failed; the rest of the section goes on."""
    message = f"{type(error).__name__}: {error}"[-2_000:]
    say(name, "FAILED:", message)
    failures[name] = message
