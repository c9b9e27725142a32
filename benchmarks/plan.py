"""How much a run measures, and how long each of its sections may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SCALING = ("batching", "volume", "length", "pool")
SECTIONS = ("throughput", "latency", "startup", "size", "accuracy", *SCALING)


@dataclass(frozen=True)
class Plan:
    """The numbers behind a run.

    Attributes:
        scale: How many texts, 1.0 for those of benchmarks/texts.py.
        rounds: Most interleaved rounds of a section.
        least: Rounds of throughput and latency in any case, over time or not.
        repeats: Least rounds of the curves.
        calls: Single texts in a round of latency.
        torch_peers: Starts of each peer on torch, which take five seconds; of others, seven.
        pairs: Pairs of SICK; None for all.
        streamed: Texts streamed through a small model.
        stream_seconds: For each stream through MiniLM.
        budgets: Values of `batch_tokens`.
        seconds: After so many, a section starts no further round.
    """

    scale: float = 1.0
    rounds: int = 7
    least: int = 5
    repeats: int = 2
    calls: int = 40
    starts: int = 7
    torch_peers: int = 7
    pairs: int | None = None
    streamed: int = 1_000_000
    stream_seconds: float = 90
    budgets: tuple[int, ...] = (128, 256, 512, 1_024, 2_048, 8_192)
    seconds: Mapping[str, float] = field(
        default_factory=lambda: {
            "throughput": 960,
            "latency": 90,
            "startup": 330,
            "batching": 150,
            "volume": 330,
            "length": 150,
            "pool": 110,
        }
    )

    def shrunk(self, scale: float) -> Plan:
        """With so much of the texts, for a look at whether everything works."""
        part = min(scale / self.scale, 1.0)
        return replace(
            self,
            scale=scale,
            pairs=max(round((self.pairs or 4_900) * part), 100),
            streamed=max(round(self.streamed * part), 20_000),
            stream_seconds=max(self.stream_seconds * part, 5.0),
        )

    def with_rounds(self, rounds: int) -> Plan:
        """Exactly so many rounds of everything."""
        return replace(
            self, rounds=rounds, least=rounds, repeats=rounds, starts=rounds, torch_peers=rounds
        )

    def within(self, minutes: float) -> Plan:
        """Every section's time in proportion, so that all of them take about as long."""
        factor = minutes * 60 / sum(self.seconds.values())
        return replace(
            self,
            stream_seconds=self.stream_seconds * min(factor, 1.0),
            seconds={name: factor * seconds for name, seconds in self.seconds.items()},
        )


FULL = Plan()
QUICK = Plan(
    scale=0.4,
    rounds=5,
    calls=20,
    torch_peers=3,
    repeats=1,
    pairs=1_000,
    stream_seconds=30,
    budgets=(128, 512, 2_048, 8_192),
    seconds={
        "throughput": 300,
        "latency": 40,
        "startup": 180,
        "batching": 50,
        "volume": 140,
        "length": 45,
        "pool": 45,
    },
)
