"""Whether files that were made are still of the weights that they were made from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError
from core.files.files import LocalFiles
from core.files.fingerprint import is_as_seen
from core.files.paths import resolve_inside
from core.operations.file_choice import read_sidecar

logger = logging.getLogger("core")


def warn_of_other_weights(source: Checkpoint, name: str | None, loaded: Collection[str]) -> None:
    """Say so where a file of a directory was made from other weights than lie in it now.

    What it was made from may be made itself: an int8 file from an export, that from weights.

    Args:
        name: The file to load.
        loaded: The files that are loaded along with it: what they hold is what counts.
    """
    if name is None or not isinstance(source.files, LocalFiles):
        return
    found = _made_from_others(source, source.files, name, {name, *loaded})
    if found is not None:
        made, weights = found
        logger.warning(
            "%s: %s was made from another %s than the one beside it now, whose embeddings differ. "
            "Make it again, or remove it.",
            source,
            made,
            weights,
        )


def _made_from_others(
    source: Checkpoint, files: LocalFiles, name: str, known: set[str]
) -> tuple[str, str] | None:
    """A file, and what it was made from where that is another one now."""
    for weights, recorded in _recorded(read_sidecar(source, name)).items():
        if weights in known or weights not in source.names:
            continue
        known.add(weights)
        try:
            same = is_as_seen(resolve_inside(files.root, weights), recorded)
        except (OSError, CoreError):  # nothing is loaded from it
            continue
        if not same:
            return name, weights
        if found := _made_from_others(source, files, weights, known):
            return found
    return None


def _recorded(sidecar: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Weights that a file was made from to what was seen of them; files may hold anything."""
    stated = sidecar.get("source")
    found = stated.get("seen") if isinstance(stated, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {name: record for name, record in found.items() if isinstance(record, Mapping)}
