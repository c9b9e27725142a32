"""Text embeddings through interchangeable inference backends.

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    embeddings = model.encode(["one text", "another"])  # float32 [2, 384]

Names are resolved on first use, so that importing `core` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from core.machine.telemetry import turn_off_telemetry
from core.version import __version__ as __version__

turn_off_telemetry()  # before anything imports what it is about

if TYPE_CHECKING:
    from core.api import (
        backends,
        export,
        kind_of,
        load,
        load_multi_vector,
        load_reranker,
        load_sparse,
        optimize,
        plugins,
        push,
        quantize,
        register_backend,
        register_plugin,
        save,
    )
    from core.architecture.architecture import Architecture
    from core.architecture.batch import TokenBatch
    from core.architecture.late_interaction import TokenPooling
    from core.artifacts.artifact import (
        Artifact,
        OutputsVerification,
        ScoreVerification,
        SparseVerification,
        VectorVerification,
        Verification,
    )
    from core.batch.embed import DatasetReport, embed_dataset
    from core.checkpoint.checkpoint import Checkpoint
    from core.distributed.pool import ProcessPool
    from core.engine.encode import encode_texts
    from core.engine.postprocessing import quantize_embeddings
    from core.engine.runtime import Runtime
    from core.engine.sparse import SparseEmbeddings
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
    from core.models.building import build_model
    from core.models.embedding import EmbeddingModel
    from core.models.model import Model
    from core.models.multi_vector import MultiVectorEncoder
    from core.models.reranker import Reranker
    from core.models.sparse import SparseEncoder
    from core.operations.hooks import Hooks, hooks
    from core.options import (
        CardData,
        EncodeOptions,
        ExportOptions,
        LoadOptions,
        OptimizeOptions,
        QuantizeOptions,
        SaveOptions,
    )
    from core.plugin.capabilities import Capabilities
    from core.plugin.hookspecs import SPEC_VERSION, hookimpl
    from core.plugin.status import BackendStatus, PluginStatus
    from core.tuning.findings import TunedVariant
    from core.tuning.report import TuneReport
    from core.tuning.tune import tune

_MODULES: dict[str, tuple[str, ...]] = {
    "api": (
        "backends",
        "export",
        "kind_of",
        "load",
        "load_multi_vector",
        "load_reranker",
        "load_sparse",
        "optimize",
        "plugins",
        "push",
        "quantize",
        "register_backend",
        "register_plugin",
        "save",
    ),
    "architecture.architecture": ("Architecture",),
    "architecture.batch": ("TokenBatch",),
    "architecture.late_interaction": ("TokenPooling",),
    "artifacts.artifact": (
        "Artifact",
        "OutputsVerification",
        "ScoreVerification",
        "SparseVerification",
        "VectorVerification",
        "Verification",
    ),
    "batch.embed": (
        "DatasetReport",
        "embed_dataset",
    ),
    "checkpoint.checkpoint": ("Checkpoint",),
    "distributed.pool": ("ProcessPool",),
    "engine.encode": ("encode_texts",),
    "engine.postprocessing": ("quantize_embeddings",),
    "engine.runtime": ("Runtime",),
    "engine.sparse": ("SparseEmbeddings",),
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
    "models.building": ("build_model",),
    "models.embedding": ("EmbeddingModel",),
    "models.model": ("Model",),
    "models.multi_vector": ("MultiVectorEncoder",),
    "models.reranker": ("Reranker",),
    "models.sparse": ("SparseEncoder",),
    "operations.hooks": (
        "Hooks",
        "hooks",
    ),
    "options": (
        "CardData",
        "EncodeOptions",
        "ExportOptions",
        "LoadOptions",
        "OptimizeOptions",
        "QuantizeOptions",
        "SaveOptions",
    ),
    "plugin.capabilities": ("Capabilities",),
    "plugin.hookspecs": (
        "SPEC_VERSION",
        "hookimpl",
    ),
    "plugin.status": (
        "BackendStatus",
        "PluginStatus",
    ),
    "tuning.findings": ("TunedVariant",),
    "tuning.report": ("TuneReport",),
    "tuning.tune": ("tune",),
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
    "CardData",
    "Checkpoint",
    "CoreError",
    "DatasetReport",
    "EmbeddingModel",
    "EncodeOptions",
    "ExportOptions",
    "Hooks",
    "LoadOptions",
    "Model",
    "ModelError",
    "ModelFormatError",
    "ModelNotFound",
    "MultiVectorEncoder",
    "OptimizeOptions",
    "OptionError",
    "OutputsVerification",
    "PluginError",
    "PluginStatus",
    "ProcessPool",
    "QuantizeOptions",
    "Reranker",
    "Runtime",
    "SaveOptions",
    "ScoreVerification",
    "SparseEmbeddings",
    "SparseEncoder",
    "SparseVerification",
    "TokenBatch",
    "TokenPooling",
    "TuneReport",
    "TunedVariant",
    "UnsupportedOperation",
    "VectorVerification",
    "Verification",
    "VerificationError",
    "__version__",
    "backends",
    "build_model",
    "embed_dataset",
    "encode_texts",
    "export",
    "hookimpl",
    "hooks",
    "kind_of",
    "load",
    "load_multi_vector",
    "load_reranker",
    "load_sparse",
    "optimize",
    "plugins",
    "push",
    "quantize",
    "quantize_embeddings",
    "register_backend",
    "register_plugin",
    "save",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
