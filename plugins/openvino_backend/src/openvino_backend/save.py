"""Save: the graph the model was loaded from."""

from __future__ import annotations

import shutil
from pathlib import Path

from core import EmbeddingModel
from openvino_backend.graph import graph_files


def save_graph(model: EmbeddingModel, target: Path) -> Path:
    """Put the model's graph and its weights into the staging directory, unless they are there."""
    if model.file_name is None:  # static embeddings: core has copied them
        return target
    for name in graph_files(model.source, model.file_name):
        place = target / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.source.path(name), place)
    return target
