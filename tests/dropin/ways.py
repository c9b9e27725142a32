"""What the tests of every way to a faster model share: models, configurations, merging."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.hub.loopback import LoopbackHub

REPO = "acme/tiny"
TEXTS = ["one text", "another, longer text about vectors", "a third"]
LEVELS = {"O1": 1e-4, "O2": 1e-4, "O3": 0.05, "O4": 0.05}
PRESETS = {
    "arm64": "qint8_arm64",
    "avx2": "quint8_avx2",
    "avx512": "qint8_avx512",
    "avx512_vnni": "qint8_avx512_vnni",
}
#: What an Optimum configuration object is to us: its attributes.
STATIC_CONFIGS: dict[str, Any] = {
    "none": None,
    "dict": {"bits": 8, "num_samples": 24},
    "object": SimpleNamespace(
        bits=8, sym=False, overflow_fix="disable", num_samples=24, smooth_quant_alpha=None
    ),
}


def merge(hub: LoopbackHub, number: int) -> None:
    """What the merge button does to the repository."""
    store = hub.store(REPO)
    store.point("refs/heads/main", store.resolve(f"refs/pr/{number}"))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return result
