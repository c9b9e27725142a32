"""How much is measured, and how long each section may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.tuning.measure import Budget


@dataclass(frozen=True)
class Shape:
    """The size of a transformer."""

    layers: int
    hidden: int
    heads: int
    intermediate: int


@dataclass(frozen=True)
class Plan:
    """Sizes of everything.

    Attributes:
        shapes: What speed is measured on.
        checked: The shape whose embeddings are compared, in every architecture.
        vocabulary: Words of the tokenizer.
        positions: The longest text of a model, in tokens.
        texts: The most that one round may have.
        round_seconds: How long a round of one system should take.
        rounds: Of each comparison, at most.
        calls: Single texts that are timed.
        threads: That call `encode` at once.
    """

    shapes: Mapping[str, Shape]
    checked: Shape
    vocabulary: int
    positions: int
    checked_texts: int
    texts: int
    round_seconds: float
    rounds: int
    calls: int
    threads: int


FULL = Plan(
    shapes={"e5-small": Shape(12, 384, 12, 1_536), "bert-base": Shape(12, 768, 12, 3_072)},
    checked=Shape(4, 256, 4, 1_024),
    vocabulary=30_000,
    positions=512,
    checked_texts=96,
    texts=200_000,
    round_seconds=1.5,
    rounds=5,
    calls=300,
    threads=16,
)
#: Everything once, in seconds, on a CPU.
TINY = Plan(
    shapes={"tiny": Shape(2, 32, 4, 64)},
    checked=Shape(2, 32, 4, 64),
    vocabulary=600,
    positions=64,
    checked_texts=12,
    texts=48,
    round_seconds=0.02,
    rounds=1,
    calls=3,
    threads=16,
)

#: Section to its seconds in a run of 8 minutes of all of them; in other runs, its share.
SECONDS = {
    "device": 15.0,
    "correctness": 105.0,
    "kinds": 20.0,
    "throughput": 140.0,
    "busy": 30.0,
    "latency": 25.0,
    "recovery": 25.0,
    "threads": 25.0,
    "pool": 45.0,
    "onnx": 50.0,
}
MINUTES = 8.0


@dataclass(frozen=True)
class Setting:
    """What a section is given.

    Attributes:
        device: As `core.load` takes it.
        work: Where models are kept.
        model: A real model's folder, or None.
    """

    device: str
    plan: Plan
    budget: Budget
    work: Path
    model: Path | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")
