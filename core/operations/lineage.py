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
    """Say so where a file to load was made from other weights than lie beside it now.

    Args:
        loaded: The files that are loaded along with it: what they hold is what counts.
    """
    found = None if name is None else made_from_others(source, name, loaded)
    if found is not None:
        made, weights = found
        logger.warning(
            "%s: %s was made from another %s than the one beside it now, whose embeddings differ. "
            "Make it again, or remove it.",
            source,
            made,
            weights,
        )


def made_from_others(
    source: Checkpoint, name: str, known: Collection[str] = ()
) -> tuple[str, str] | None:
    """A file of a directory, and what it was made from where that is another one now.

    What it was made from may be made itself: an int8 file from an export, that from weights.
    A repository's files are of one commit, and are not looked at.

    Args:
        known: Files that need no look.
    """
    if not isinstance(source.files, LocalFiles):
        return None
    waiting, looked_at = [name], {name, *known}
    while waiting:
        made = waiting.pop()
        for weights, recorded in _recorded(read_sidecar(source, made)).items():
            if weights in looked_at or weights not in source.names:
                continue
            looked_at.add(weights)
            try:
                same = is_as_seen(resolve_inside(source.files.root, weights), recorded)
            except (OSError, CoreError):  # nothing is loaded from it
                continue
            if not same:
                return made, weights
            waiting.append(weights)
    return None


def _recorded(sidecar: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Weights that a file was made from to what was seen of them; files may hold anything."""
    stated = sidecar.get("source")
    found = stated.get("seen") if isinstance(stated, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {name: record for name, record in found.items() if isinstance(record, Mapping)}
