"""What a run found: every variant's figures, the choice and its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from core.tuning.goal import OBJECTIVES, Goal

Status = Literal["measured", "dropped", "failed", "not tried"]


@dataclass(frozen=True, kw_only=True)
class TunedVariant:
    """One way to run the model, and what it was measured to do.

    Figures are None where a variant was not measured that far.

    Attributes:
        name: Unlike that of any other.
        backend: Whose.
        file_name: The file it loads, relative to the model; None for a backend without files.
        operation: What makes the file: `"export"`, `"optimize"`, `"quantize"`; "" for loading.
        config: The operation's configuration.
        options: `model_kwargs` it is loaded with.
        device: Where it computes.
        dtype: What it computes in.
        status: `"measured"` to the end; `"dropped"` early, as too slow or too far from float32;
            `"failed"`; `"not tried"` for want of time.
        note: Why it was dropped, failed or was not tried.
        texts_per_second: Of bulk encoding.
        speed_ratio: To the float32 reference, in the rounds both were in.
        spread: How far rounds disagree on that, as a share of it.
        p50_ms: Median of encoding one text, in milliseconds.
        p99_ms: 99th percentile of it.
        resident_bytes: Of a process that runs the model.
        start_s: From starting a process to its first embedding, in seconds.
        size_bytes: Of its files.
        texts: How many texts the next figures are from.
        mean_cosine: Between its embeddings and the reference's; `core.tuning.fidelity` has the
            definitions of this and what follows.
        p1_cosine: First percentile.
        min_cosine: Minimum.
        spearman: Of pairwise similarities.
        recall_at_10: Of nearest neighbours.
        recall_interval: 95 % bootstrap interval of it.
        mixed_recall_at_10: New queries against old float32 documents.
        quality: Ratio to the reference on labelled data, the lower where there are two kinds.
        quality_scores: The scores themselves: `"pairs"` (Spearman), `"retrieval"` (NDCG@10).
    """

    name: str
    backend: str
    file_name: str | None = None
    operation: str = ""
    config: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None
    status: Status = "measured"
    note: str = ""
    texts_per_second: float | None = None
    speed_ratio: float | None = None
    spread: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    resident_bytes: int | None = None
    start_s: float | None = None
    size_bytes: int | None = None
    texts: int | None = None
    mean_cosine: float | None = None
    p1_cosine: float | None = None
    min_cosine: float | None = None
    spearman: float | None = None
    recall_at_10: float | None = None
    recall_interval: tuple[float, float] | None = None
    mixed_recall_at_10: float | None = None
    quality: float | None = None
    quality_scores: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def figure(self, objective: str) -> float | None:
        """The figure that an objective is about, larger being better."""
        if objective == "throughput":
            return self.texts_per_second
        value = self.p50_ms if objective == "latency" else self.resident_bytes
        return None if value is None else 1 / value


@dataclass(kw_only=True)
class Findings:
    """What was measured, and what follows from it.

    Attributes:
        model: As the caller named it.
        best: The recommendation.
        variants: Every variant, the best by the objective first.
        reference: The float32 variant that others are compared with.
        goal: What the choice is for and must keep.
        reason: The recommendation in one sentence.
        texts: How many texts judged.
        calibration_texts: How many others calibrated.
        processor: Of the machine, in words.
        seconds: How long it took, without what earlier runs had measured.
        lock: Path of the `core_tuned.json` that was written; None if none was.
    """

    model: str
    best: TunedVariant
    variants: list[TunedVariant]
    reference: TunedVariant
    goal: Goal
    reason: str
    texts: int
    calibration_texts: int
    processor: str
    seconds: float
    lock: Path | None = None

    def pareto_front(self) -> list[TunedVariant]:
        """Variants that no other beats in the objective's figure and in recall at once."""
        known = [v for v in self.variants if _place(v, self.goal.objective) is not None]
        return [
            variant
            for variant in known
            if not any(_dominates(other, variant, self.goal.objective) for other in known)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model,
            "best": self.best.as_dict(),
            "variants": [variant.as_dict() for variant in self.variants],
            "reference": self.reference.name,
            "goal": asdict(self.goal),
            "reason": self.reason,
            "texts": self.texts,
            "calibration_texts": self.calibration_texts,
            "processor": self.processor,
            "seconds": self.seconds,
            "lock": None if self.lock is None else str(self.lock),
        }


def _place(variant: TunedVariant, objective: str) -> tuple[float, float] | None:
    figure = variant.figure(objective)
    if figure is None or variant.recall_at_10 is None:
        return None
    return figure, variant.recall_at_10


def _dominates(first: TunedVariant, second: TunedVariant, objective: str) -> bool:
    one, two = _place(first, objective), _place(second, objective)
    assert one is not None
    assert two is not None
    return one != two and one[0] >= two[0] and one[1] >= two[1]


def measured_figures(variant: TunedVariant) -> dict[str, Any]:
    """The figures of a variant alone, for the lock."""
    leave = {"name", "backend", "file_name", "options", "device", "status", "note"}
    return {
        f.name: value
        for f in fields(variant)
        if f.name not in leave and (value := getattr(variant, f.name)) not in (None, "", {})
    }


def objective_words(variant: TunedVariant, objective: str) -> str:
    """The figure an objective is about, with its unit."""
    if objective == "throughput" and variant.texts_per_second is not None:
        return f"{variant.texts_per_second:,.0f} {OBJECTIVES[objective]}"
    if objective == "latency" and variant.p50_ms is not None:
        return f"{variant.p50_ms:.2f} {OBJECTIVES[objective]}"
    if objective == "memory" and variant.resident_bytes is not None:
        return f"{variant.resident_bytes / 1e6:,.0f} MB of {OBJECTIVES[objective]}"
    return "not measured"
