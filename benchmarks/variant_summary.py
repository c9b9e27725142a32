"""From the cells of a record to ratios and means."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cells import key
from benchmarks.summary import geometric_mean
from benchmarks.systems import REFERENCE
from core.tuning.measure import spread

LENGTHS = ("short", "middle", "long")


@dataclass(frozen=True)
class Figures:
    """One system in a few numbers.

    Attributes:
        speed: Geometric mean of its ratios to the reference; None if nothing was measured.
        quality: Mean of its figures on data with judgments, each divided by the reference's.
        sizes: Sizes of model in the first, and in all.
    """

    ours: bool
    precision: str
    speed: float | None
    quality: float | None
    sizes: tuple[int, int] = (1, 1)


class Summary:
    """A record, read for tables and drawings."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.sizes: list[str] = list(record["sizes"])
        known = record["systems"]
        self.systems: list[str] = sorted(known, key=lambda name: not known[name]["ours"])
        self.tasks = {name: size["tasks"] for name, size in record["sizes"].items()}

    def ratios(self, size: str, system: str, length: str, batch: str = "default") -> list[float]:
        """Texts per second over the reference's, for each round; empty if not measured."""
        cell = self.record["speed"].get(key(size, system, length, batch))
        if not cell or not cell["seconds"]:
            return []
        share = cell["texts"] / cell["reference"]["texts"]
        pairs = zip(cell["reference"]["seconds"], cell["seconds"], strict=True)
        return [share * base / own for base, own in pairs]

    def ratio(self, size: str, system: str, length: str, batch: str = "default") -> float | None:
        found = self.ratios(size, system, length, batch)
        return statistics.median(found) if found else None

    def mean(
        self,
        system: str,
        sizes: Iterable[str],
        lengths: Sequence[str] = LENGTHS,
        batch: str = "default",
    ) -> float | None:
        """Geometric mean over sizes and lengths; None if one that was measured is missing."""
        found = []
        for size in sizes:
            for length in lengths:
                if self.ratio(size, REFERENCE, length, batch) is None:
                    continue  # not measured for anyone
                value = self.ratio(size, system, length, batch)
                if value is None:
                    return None
                found.append(value)
        return geometric_mean(found) if found else None

    def texts_per_second(self, size: str, system: str, length: str) -> float | None:
        cell = self.record["speed"].get(key(size, system, length, "default"))
        if not cell or not cell["seconds"]:
            return None
        return float(cell["texts"] / statistics.median(cell["seconds"]))

    def spread(self) -> list[float]:
        """Interquartile range over the median of the ratios of every cell that has a few."""
        found = []
        for name, cell in self.record["speed"].items():
            size, system, length, batch = name.split("/")
            ratios = self.ratios(size, system, length, batch)
            if system != REFERENCE and len(ratios) > 2 and cell["seconds"]:
                found.append(spread(ratios))
        return sorted(found)

    def quality(self, size: str, system: str, task: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.record["quality"].get(key(size, system, task))
        return found

    def quality_ratio(self, size: str, system: str, task: str) -> float | None:
        own, base = (self.quality(size, name, task) for name in (system, REFERENCE))
        return own["value"] / base["value"] if own and base and base["value"] else None

    def figures(self) -> dict[str, Figures]:
        """Every system; sizes that it failed with are left out of its means."""
        found = {}
        for name in self.systems:
            fit = [size for size in self.sizes if self.mean(name, [size]) is not None]
            ratios = [
                self.quality_ratio(size, name, task)
                for size in self.sizes
                for task in self.tasks[size]
            ]
            known = [ratio for ratio in ratios if ratio is not None]
            about = self.record["systems"][name]
            found[name] = Figures(
                ours=about["ours"],
                precision=about["precision"],
                speed=self.mean(name, fit) if fit else None,
                quality=statistics.mean(known) if known and len(known) == len(ratios) else None,
                sizes=(len(fit), len(self.sizes)),
            )
        return found


def figures_of_sections(sections: Mapping[str, Any]) -> dict[str, Figures]:
    """The same of the comparison with other libraries, which has one size of model.

    Records of before the comparison of variants have the quality of some systems.
    """
    spearman = sections.get("accuracy", {}).get("spearman", {})
    exact = spearman.get("core onnx fp32")
    found = {}
    for name, entry in sections.get("throughput", {}).get("systems", {}).items():
        found[name] = Figures(
            ours=entry["ours"],
            precision=entry["precision"],
            speed=geometric_mean(entry["ratio"].values()) if entry["ratio"] else None,
            quality=spearman[name] / exact if name in spearman and exact else None,
        )
    return found
