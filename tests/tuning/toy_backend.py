"""A backend whose variants differ as much as a test needs: in pace, and in how far they drift.

A model is a table of word vectors and a number of seconds for each text, both in one file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import core
from core.files.weights import read_weights, write_safetensors
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry

#: Seconds a text of the model as it is.
PACE = 0.0004

_TABLE = "embeddings.word_embeddings.weight"

#: Configuration to the share of the model's pace.
PACES: Mapping[str, float] = {
    "swift": 0.2,
    "slow": 4.0,
    "coarse": 0.3,
    "noise": 0.0,
    "broken": 1.0,
    "copy": 1.0,
}


class Toy(core.Runtime):
    """The table and the pace."""

    def __init__(
        self, architecture: core.Architecture, table: NDArray[np.float32], pace: float, file: str
    ) -> None:
        super().__init__(architecture)
        self.files = (file,)
        self.table, self.pace = table, pace

    @classmethod
    def open(
        cls, source: core.Checkpoint, architecture: core.Architecture, options: core.LoadOptions
    ) -> Toy:
        assert options.file_name is not None
        tensors = read_weights(source.path(options.file_name))
        pace = float(tensors["pace"][0]) if "pace" in tensors else PACE
        pace *= options.model_kwargs.get("haste", 1.0)
        return cls(architecture, np.array(tensors[_TABLE], np.float32), pace, options.file_name)

    def token_embeddings(self, batch: core.TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        time.sleep(self.pace * batch.rows)
        rows: NDArray[np.float32] = self.table[batch.input_ids]
        return rows


def _write(model: core.EmbeddingModel, target: Path, config: str) -> core.Artifact:
    if config == "broken":
        raise core.UnsupportedOperation("This configuration is broken on purpose.")
    runtime: Any = model.runtime
    table = runtime.table
    if config == "coarse":
        table = (table / 0.05).round() * np.float32(0.05)
    if config == "noise":
        table = np.random.default_rng(0).normal(size=table.shape).astype(np.float32)
    name = f"toy/model_{config}.safetensors"
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    pace = np.array([PACE * PACES[config]], np.float32)
    write_safetensors(target / name, {_TABLE: table, "pace": pace})
    precision = "int8" if config in ("coarse", "noise") else "fp32"
    return core.Artifact(root=target, file_name=name, precision=precision)


@core.hookimpl
def load(source: core.Checkpoint, options: core.LoadOptions) -> Any:
    return core.build_model(source, options, Toy.open)


@core.hookimpl
def optimize(
    model: core.EmbeddingModel, target: Path, options: core.OptimizeOptions
) -> core.Artifact:
    return _write(model, target, options.config or "swift")


@core.hookimpl
def quantize(
    model: core.EmbeddingModel, target: Path, options: core.QuantizeOptions
) -> core.Artifact:
    return _write(model, target, options.config or "coarse")


@core.hookimpl
def encode(model: core.EmbeddingModel, texts: Sequence[str], options: core.EncodeOptions) -> Any:
    return core.encode_texts(model, texts, options)


@core.hookimpl
def save(model: core.EmbeddingModel, target: Path, options: core.SaveOptions) -> Path:
    return model.copy_weights(target)


@contextmanager
def toy_backend(
    optimize_configs: Sequence[str] = (),
    quantize_configs: Sequence[str] = (),
    name: str = "toy",
    **capabilities: Any,
) -> Iterator[None]:
    """Have a backend `toy` with these configurations in this process."""
    plugin = ModuleType("toy_backend")
    attributes: dict[str, Any] = {
        "SPEC_VERSION": 1,
        "FILE_NAMES": ("model.safetensors",),
        "FILES": {"model.safetensors": (), "toy/*.safetensors": ()},
        "MODEL_KWARGS": ("haste",),
        "ARTIFACT_FOLDER": "toy",
        "OPTIMIZE_CONFIGS": dict.fromkeys(optimize_configs, "for a test"),
        "QUANTIZE_CONFIGS": dict.fromkeys(quantize_configs, "for a test"),
        **capabilities,
    }
    hooks = (load, optimize, quantize, encode, save)
    for attribute, value in attributes.items():
        setattr(plugin, attribute, value)
    for hook in hooks:
        setattr(plugin, hook.__name__, hook)
    core.register_backend(name, plugin, replace=True)
    try:
        yield
    finally:
        registry.unregister(BACKEND_GROUP, name)
