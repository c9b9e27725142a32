"""How much a run measures, and how long each of its sections may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SCALING = ("batching", "volume", "length", "pool")
SECTIONS = ("throughput", "latency", "startup", "size", *SCALING)
#: Its record is another file, and has its own figures for every processor.
VARIANTS = "variants"
QUICK_SECTIONS = (VARIANTS, "throughput", "latency", "startup", "size")


@dataclass(frozen=True)
class GridPlan:
    """How much of the comparison of variants is measured.

    Attributes:
        sizes: Of benchmarks/sizes.py.
        scale: How many texts, 1.0 for those of benchmarks/sizes.py.
        rounds: Of each length, with every system's own batches.
        batches: Texts in a batch, beside every system's own choice.
        batch_rounds: Of those.
        quality: Whether quality is measured.
        pairs: Most pairs of texts with a judgment; None for all that a size takes.
        queries: Most queries; None for all that a size takes.
    """

    sizes: tuple[str, ...] = ("minilm", "base", "large", "xlm-r")
    scale: float = 1.0
    rounds: int = 4
    batches: tuple[int, ...] = (8, 32, 128)
    batch_rounds: int = 2
    quality: bool = True
    pairs: int | None = None
    queries: int | None = None


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
        streamed: Texts streamed through a small model.
        stream_seconds: For each stream through MiniLM.
        budgets: Values of `batch_tokens`.
        grid: The comparison of variants.
        seconds: After so many, a section starts no further round.
    """

    scale: float = 1.0
    rounds: int = 7
    least: int = 5
    repeats: int = 2
    calls: int = 40
    starts: int = 7
    torch_peers: int = 7
    streamed: int = 1_000_000
    stream_seconds: float = 90
    budgets: tuple[int, ...] = (128, 256, 512, 1_024, 2_048, 8_192)
    grid: GridPlan = GridPlan()
    seconds: Mapping[str, float] = field(
        default_factory=lambda: {
            "variants": 10_800,
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
            grid=replace(
                self.grid,
                scale=self.grid.scale * part,
                pairs=max(round((self.grid.pairs or 1_000) * part), 100),
                queries=max(round((self.grid.queries or 40) * part), 5),
            ),
            streamed=max(round(self.streamed * part), 20_000),
            stream_seconds=max(self.stream_seconds * part, 5.0),
        )

    def with_rounds(self, rounds: int) -> Plan:
        """Exactly so many rounds of everything."""
        return replace(
            self,
            rounds=rounds,
            least=rounds,
            repeats=rounds,
            starts=rounds,
            torch_peers=rounds,
            grid=replace(self.grid, rounds=rounds, batch_rounds=rounds),
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
    rounds=4,
    least=2,
    calls=20,
    starts=3,
    torch_peers=1,
    repeats=1,
    stream_seconds=30,
    budgets=(128, 512, 2_048, 8_192),
    grid=GridPlan(
        sizes=("minilm", "base"),
        scale=0.25,
        rounds=2,
        batches=(32,),
        batch_rounds=1,
        pairs=300,
        queries=15,
    ),
    seconds={
        "variants": 420,
        "throughput": 120,
        "latency": 30,
        "startup": 60,
        "batching": 50,
        "volume": 140,
        "length": 45,
        "pool": 45,
    },
)
