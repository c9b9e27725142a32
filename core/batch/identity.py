"""What decides a job's result: the model, its options, versions and the source, as one document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.operations.tuned_files import record_files
from core.options import EncodeOptions
from core.plugin.versions import backend_versions

#: Of the document; a change of what the parts hold changes it.
FORMAT = 1
_DIGITS = 32
#: Options of `encode` that decide how fast a result is computed, and not what it is.
_SPEED_ONLY = ("show_progress_bar",)
#: Options of backends that decide what a process holds in memory. What runs a job may choose them,
#: and a job that is begun on one machine may be finished on several.
_MEMORY_ONLY = ("share_weights",)


def describe_model(model: Model) -> dict[str, Any]:
    """The model as far as it decides embeddings: files, settings, backend, device and versions."""
    capabilities = model.hooks.capabilities
    by_name = capabilities.source == "name"
    files = {} if by_name else record_files(model.source, capabilities, model.file_name)
    return {
        "name": str(model.source),
        "kind": model.kind,
        "backend": model.backend,
        "device": model.device,
        "dtype": model.dtype,
        "file": model.file_name,
        # Some of the other kinds know it only after they have computed something.
        "dimension": model.dimension if isinstance(model, EmbeddingModel) else None,
        "files": digest_of(files),
        "settings": digest_of(model.state()),
        "model_kwargs": _plain(
            {n: value for n, value in model.model_kwargs.items() if n not in _MEMORY_ONLY}
        ),
        "config_kwargs": _plain(model.config_kwargs),
        "versions": backend_versions(model.backend),
    }


def describe_options(options: EncodeOptions) -> dict[str, Any]:
    """The options that are not as they are by default."""
    default = asdict(EncodeOptions())
    changed = {
        name: value
        for name, value in asdict(options).items()
        if name not in _SPEED_ONLY and value != default[name]
    }
    return _plain(changed)


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it, whatever the values are."""
    plain: dict[str, Any] = json.loads(json.dumps(given, default=repr))
    return plain


def digest_of(document: Any) -> str:
    """32 hexadecimal digits (of its SHA-256) of a JSON document."""
    text = json.dumps(document, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Name, value before and value now of everything in which two documents differ."""
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}", old, new
