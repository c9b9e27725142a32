"""What a run has measured and made, kept so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from core.files.staging import explained_writes
from core.tuning.fidelity import Floats

_RECORD = "measured.json"

#: Raised when what is recorded changes its meaning.
_FORMAT = 2


class Store:
    """A folder of the cache: files that were made, and figures.

    The record is replaced as a whole after each step, so a process that is killed leaves the one
    before.

    Attributes:
        folder: Where everything lies.
        made: A model directory with the files that were made.
        variants: Name to what is known of a variant.
        rounds: What each finished round measured.
        settings: Sizes that must stay the same for rounds to be comparable.
        drops: Goal to variant to the reason why it was dropped; another goal may want it.
        quality: Digest of labelled data, to variant, to its scores.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = folder / "made"
        self.variants: dict[str, dict[str, Any]] = {}
        self.rounds: list[dict[str, Any]] = []
        self.settings: dict[str, int] = {}
        self.drops: dict[str, dict[str, str]] = {}
        self.quality: dict[str, dict[str, dict[str, float]]] = {}
        self._read()

    def _read(self) -> None:
        try:
            record = json.loads((self.folder / _RECORD).read_bytes())
            if record["format"] != _FORMAT:
                return
            self.variants, self.rounds = record["variants"], record["rounds"]
            self.settings, self.drops = record["settings"], record["drops"]
            self.quality = record["quality"]
        except (OSError, ValueError, KeyError, TypeError):  # none yet
            return

    def save(self) -> None:
        """Replace the record."""
        record = {
            "format": _FORMAT,
            "variants": self.variants,
            "rounds": self.rounds,
            "settings": self.settings,
            "drops": self.drops,
            "quality": self.quality,
        }
        with explained_writes(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(self.folder / _RECORD, json.dumps(record).encode())

    def forget(self) -> None:
        """Drop every figure; what was made stays."""
        self.rounds.clear()
        self.settings.clear()
        self.drops.clear()
        self.quality.clear()
        self.variants = {
            name: {"made": known["made"]}
            for name, known in self.variants.items()
            if "made" in known
        }
        shutil.rmtree(self._embeddings, ignore_errors=True)
        self.save()

    def keep(self, variant: str, chunk: int, embeddings: Floats) -> None:
        """Keep what a variant made of a chunk of the texts, float32 [texts, dimension]."""
        path = self._path(variant, chunk)
        with explained_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft, content = path.with_suffix(".draft"), io.BytesIO()
            np.save(content, embeddings)  # which does not say why it cannot write to a file
            draft.write_bytes(content.getvalue())
            draft.replace(path)

    def embeddings(self, variant: str, chunk: int) -> Floats | None:
        """What `keep` was given; None if it was given nothing."""
        try:
            found: Floats = np.load(self._path(variant, chunk), allow_pickle=False)
        except (OSError, ValueError):
            return None
        return found

    @property
    def _embeddings(self) -> Path:
        return self.folder / "embeddings"

    def _path(self, variant: str, chunk: int) -> Path:
        digest = hashlib.sha256(variant.encode()).hexdigest()[:16]
        return self._embeddings / f"{digest}-{chunk}.npy"

    @staticmethod
    def _replace(path: Path, content: bytes) -> None:
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
