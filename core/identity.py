"""What a model computes, as one string: for caches and records of embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.checkpoint import Checkpoint
    from core.model import EmbeddingModel


def source_identity(source: Checkpoint) -> Any:
    """A repository's name and commit; a directory's path with each file's size and time.

    A directory has no commit, and hashing gigabytes at every load would cost more than it is
    worth: a file that was written anew counts as another one.
    """
    if source.commit is not None or not source.names:
        return [source.repo_id or source.name, source.commit]
    stats = [(name, source.path(name).stat()) for name in source.names]
    where = str(Path(source.name).expanduser().resolve())
    return [where, [(name, s.st_size, s.st_mtime_ns) for name, s in stats]]


def model_identity(model: EmbeddingModel) -> str:
    """64 hexadecimal digits that differ whenever embeddings may differ.

    They cover the checkpoint, the file, the backend and its distribution's version, the options
    it was loaded with, device, dtype and the token limit. Prompts, truncation and precision are
    options of a call and left out.
    """
    arguments: Mapping[str, Any] = model._reload or {}
    document = [
        source_identity(model.source),
        model.file_name,
        model.hooks.name,
        model.hooks.distribution,
        model.device,
        model.dtype,
        model.max_seq_length,
        repr(sorted(arguments.get("model_kwargs", {}).items())),
        repr(sorted(arguments.get("config_kwargs", {}).items())),
    ]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
