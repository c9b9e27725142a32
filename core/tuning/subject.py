"""One variant, loaded and measured, in whatever process this runs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.api import export, load
from core.artifacts.artifact import SIDECAR_SUFFIX, Artifact
from core.machine.memory import resident_bytes
from core.models.embedding import EmbeddingModel

#: What `encode` may be asked for: the method of a model that embeds such texts.
KINDS = ("encode", "encode_query", "encode_document")


class Subject:
    """A loaded variant, or the float32 model that others are made from.

    Every method takes and returns what can be pickled, so that it can run in another process.
    """

    def __init__(self) -> None:
        self._model: EmbeddingModel | None = None

    def load(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`core.load`; what is known of the model then, as plain values."""
        self.close()
        before = resident_bytes()
        model = self._model = load(name, **arguments)
        # No backend may have started its threads before the first text.
        model.encode(["warm"], show_progress_bar=False)
        files = self._files(model)
        return {
            "dtype": model.dtype,
            "device": model.device,
            "dimension": model.dimension,
            "similarity": model.similarity_fn_name,
            "file_name": model.file_name,
            "files": files,
            "size_bytes": sum(Path(path).stat().st_size for path in files.values()),
            "added_bytes": max(resident_bytes() - before, 0),
        }

    @staticmethod
    def _files(model: EmbeddingModel) -> dict[str, str]:
        """What the variant consists of and its sidecar: name in the model to where it is."""
        found = {name: str(model.source.path(name)) for name in model.weight_files}
        sidecar = f"{model.file_name}{SIDECAR_SUFFIX}"
        if model.file_name and model.source.available(sidecar):
            found[sidecar] = str(model.source.path(sidecar))
        return found

    def make(self, operation: str, config: str, target: str, arguments: Mapping[str, Any]) -> str:
        """Have the loaded model optimized or quantized; the new file's name in `target`."""
        assert self._model is not None
        artifact: Artifact = getattr(self._model, operation)(config, target, **arguments)
        return artifact.file_name

    def export(self, name: str, target: str, arguments: Mapping[str, Any]) -> str:
        """`core.export`; the new file's name in `target`."""
        return export(name, target, **arguments).file_name

    def encode(self, kind: str, texts: Sequence[str]) -> tuple[float, Any]:
        """Seconds that embedding the texts took, and float32 [texts, dimension]."""
        method = getattr(self._model, kind)
        start = time.perf_counter()
        embeddings = method(list(texts), show_progress_bar=False)
        return time.perf_counter() - start, np.asarray(embeddings, dtype=np.float32)

    def singles(self, texts: Sequence[str]) -> list[float]:
        """Seconds that each text took alone."""
        assert self._model is not None
        taken = []
        for text in texts:
            start = time.perf_counter()
            self._model.encode(text, show_progress_bar=False)
            taken.append(time.perf_counter() - start)
        return taken

    def memory(self) -> int:
        """Bytes of this process that are in memory."""
        return resident_bytes()

    def process(self) -> int:
        """The number of the process this runs in."""
        return os.getpid()

    def close(self) -> None:
        """Let go of the model."""
        model, self._model = self._model, None
        if model is not None:
            model.close()
