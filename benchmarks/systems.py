"""What is compared: variants of this library and of sentence-transformers, and other libraries."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.peers import interpreter

#: What every speed is divided by.
REFERENCE = "sentence-transformers torch"


@dataclass(frozen=True)
class System:
    """One bar of the plots.

    Attributes:
        environment: A recipe of scripts/peers.py, or "" for this repository's own.
        precision: "fp32", "bf16" or "int8"; peers are compared with ours of the same.
        spec: What benchmarks/worker.py is told.
        distributions: What a user installs for it.
        share: The part of the texts it is given. Less than all of them only for what would take
            most of a run's time; speeds are compared by texts per second.
    """

    name: str
    environment: str
    precision: str
    spec: dict[str, Any] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    share: float = 1.0

    @property
    def ours(self) -> bool:
        return bool(self.spec["kind"] == "core")

    @property
    def interpreter(self) -> Path:
        if not self.environment:
            return Path(sys.executable)
        return interpreter(self.environment)
