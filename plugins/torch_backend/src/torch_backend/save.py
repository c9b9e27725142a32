"""Save: the weights the model was loaded from, or what it holds by now."""

from __future__ import annotations

import shutil
from pathlib import Path

from core import EmbeddingModel
from torch_backend.compiled import is_recipe, read_recipe
from torch_backend.weights import weight_files


def save_weights(model: EmbeddingModel, target: Path) -> Path:
    """Put the model's weight files into the staging directory, unless they are there."""
    file_name = model.file_name
    if file_name is None:  # static embeddings: core has copied them
        return target
    source = model.source
    names = [file_name]
    if is_recipe(file_name):
        names.append(read_recipe(source, file_name).weights)
    for name in [file for start in names for file in weight_files(source, start)]:
        place = target / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path(name), place)
    return target
