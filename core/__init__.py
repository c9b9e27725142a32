"""Text embeddings through interchangeable inference backends.

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    embeddings = model.encode(["one text", "another"])  # float32 [2, 384]

Names are resolved on first use, so that importing `core` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.api import (
        backends,
        export,
        load,
        optimize,
        plugins,
        quantize,
        register_backend,
        register_plugin,
        save,
    )
    from core.architecture import Architecture
    from core.artifact import Artifact, Verification
    from core.capabilities import Capabilities
    from core.checkpoint import Checkpoint
    from core.encode import encode_texts
    from core.errors import (
        ArtifactNotFound,
        BackendLoadError,
        BackendNotFound,
        CoreError,
        ModelError,
        ModelFormatError,
        ModelNotFound,
        OptionError,
        PluginError,
        UnsupportedOperation,
        VerificationError,
    )
    from core.hookspecs import SPEC_VERSION, hookimpl
    from core.model import EmbeddingModel, build_model
    from core.operations import Hooks, hooks
    from core.options import (
        EncodeOptions,
        ExportOptions,
        LoadOptions,
        OptimizeOptions,
        QuantizeOptions,
        SaveOptions,
    )
    from core.pool import ProcessPool
    from core.precision import quantize_embeddings
    from core.runtime import Runtime, TokenBatch
    from core.status import BackendStatus, PluginStatus

__version__ = "0.1.0"

_MODULES = {
    "api": (
        "backends",
        "export",
        "load",
        "optimize",
        "plugins",
        "quantize",
        "register_backend",
        "register_plugin",
        "save",
    ),
    "architecture": ("Architecture",),
    "artifact": ("Artifact", "Verification"),
    "capabilities": ("Capabilities",),
    "checkpoint": ("Checkpoint",),
    "encode": ("encode_texts",),
    "errors": (
        "ArtifactNotFound",
        "BackendLoadError",
        "BackendNotFound",
        "CoreError",
        "ModelError",
        "ModelFormatError",
        "ModelNotFound",
        "OptionError",
        "PluginError",
        "UnsupportedOperation",
        "VerificationError",
    ),
    "hookspecs": ("SPEC_VERSION", "hookimpl"),
    "model": ("EmbeddingModel", "build_model"),
    "operations": ("Hooks", "hooks"),
    "options": (
        "EncodeOptions",
        "ExportOptions",
        "LoadOptions",
        "OptimizeOptions",
        "QuantizeOptions",
        "SaveOptions",
    ),
    "pool": ("ProcessPool",),
    "precision": ("quantize_embeddings",),
    "runtime": ("Runtime", "TokenBatch"),
    "status": ("BackendStatus", "PluginStatus"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SPEC_VERSION",
    "Architecture",
    "Artifact",
    "ArtifactNotFound",
    "BackendLoadError",
    "BackendNotFound",
    "BackendStatus",
    "Capabilities",
    "Checkpoint",
    "CoreError",
    "EmbeddingModel",
    "EncodeOptions",
    "ExportOptions",
    "Hooks",
    "LoadOptions",
    "ModelError",
    "ModelFormatError",
    "ModelNotFound",
    "OptimizeOptions",
    "OptionError",
    "PluginError",
    "PluginStatus",
    "ProcessPool",
    "QuantizeOptions",
    "Runtime",
    "SaveOptions",
    "TokenBatch",
    "UnsupportedOperation",
    "Verification",
    "VerificationError",
    "__version__",
    "backends",
    "build_model",
    "encode_texts",
    "export",
    "hookimpl",
    "hooks",
    "load",
    "optimize",
    "plugins",
    "quantize",
    "quantize_embeddings",
    "register_backend",
    "register_plugin",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
