"""The smallest backend: static embeddings in numpy, so that processes start without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import core
from core.engine.static import StaticRuntime
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry

FILE_NAMES = ("model.safetensors",)
SPEC_VERSION = 1


@core.hookimpl
def load(source: core.Checkpoint, options: core.LoadOptions) -> core.Model:
    return core.build_model(source, options, StaticRuntime.open)


@core.hookimpl
def encode(model: core.Model, texts: Sequence[str], options: core.EncodeOptions) -> Any:
    return core.encode_texts(model, texts, options)


@core.hookimpl
def save(model: core.Model, target: Path, options: core.SaveOptions) -> Path:
    return target


def register() -> None:
    """Make it known as `numpy` in this process, until `unregister`."""
    plugin = ModuleType("numpy_backend")
    for name in ("FILE_NAMES", "SPEC_VERSION", "load", "encode", "save"):
        setattr(plugin, name, globals()[name])
    core.register_backend("numpy", plugin, replace=True)


def unregister() -> None:
    """Other tests see the installed backends only."""
    registry.unregister(BACKEND_GROUP, "numpy")
