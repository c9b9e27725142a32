"""What the record of a run says: speeds, fidelity and quality of each variant."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.tuning.candidates import Candidate
from core.tuning.fidelity import Fidelity, Floats, compare
from core.tuning.goal import Goal
from core.tuning.measure import Ratio
from core.tuning.store import Store

#: The texts that every variant starts with, as a chunk's number.
PROBE = -1


class Results:
    """Figures of every candidate, computed from what a `Store` holds.

    Args:
        store: The record.
        goal: Whose objective scores are for.
        labels_digest: Which labelled data quality is about; "" for none.

    Attributes:
        reference: What others are compared with.
    """

    def __init__(self, store: Store, goal: Goal, labels_digest: str, reference: Candidate) -> None:
        self.reference = reference
        self._store, self._goal, self._digest = store, goal, labels_digest
        self._fidelities: dict[tuple[str, str, int], Fidelity | None] = {}

    def known(self, candidate: Candidate) -> dict[str, Any]:
        """What is recorded of a candidate."""
        return self._store.variants.setdefault(candidate.name, {})

    def is_running(self, candidate: Candidate) -> bool:
        """Whether it was loaded, and nothing has spoken against it since."""
        return "facts" in self.known(candidate) and not self.is_out(candidate)

    def is_out(self, candidate: Candidate) -> bool:
        """Whether it failed, or was dropped for this goal."""
        return "error" in self.known(candidate) or bool(self.dropped(candidate))

    def dropped(self, candidate: Candidate) -> str:
        """Why a candidate was dropped for this goal; "" where it was not."""
        twin = self.twin(candidate)
        return f"the same file as {twin}" if twin else self._drops.get(candidate.name, "")

    def twin(self, candidate: Candidate) -> str:
        """The name of another candidate with the same file; "" for none."""
        return str(self.known(candidate).get("twin", ""))

    def drop(self, candidate: Candidate, why: str) -> None:
        """Record that a candidate is out of the question for this goal."""
        self._drops[candidate.name] = why

    @property
    def _drops(self) -> dict[str, str]:
        return self._store.drops.setdefault(f"{self._goal!r} {self._digest}", {})

    def round_count(self, candidate: Candidate) -> int:
        """How many rounds a candidate was in."""
        return sum(candidate.name in record["seconds"] for record in self._store.rounds)

    def speed_ratio(self, candidate: Candidate, what: str = "seconds") -> Ratio:
        """How many times as fast as the reference, round by round; of the probe without rounds.

        Args:
            what: `"seconds"` of bulk encoding, or `"singles"`.
        """
        own, other = candidate.name, self.reference.name
        pairs = [
            (_one(record[what][other]), _one(record[what][own]))
            for record in self._store.rounds
            if own in record[what] and other in record[what]
        ]
        if not pairs:
            probe = "probe_s" if what == "seconds" else "probe_singles"
            pairs = [(_one(self.known(self.reference)[probe]), _one(self.known(candidate)[probe]))]
        return Ratio(tuple(theirs / own for theirs, own in pairs))

    def score(self, candidate: Candidate) -> float:
        """How good a candidate is for the objective, the reference being 1."""
        if self._goal.objective == "memory":
            own = self.known(candidate)["resident_bytes"]
            return float(self.known(self.reference)["resident_bytes"] / own)
        what = "seconds" if self._goal.objective == "throughput" else "singles"
        return self.speed_ratio(candidate, what).median

    def probe_rate(self, candidate: Candidate) -> float:
        """Texts a second of a candidate in its first call."""
        return float(self._store.settings["probe_texts"] / self.known(candidate)["probe_s"])

    def reference_rate(self) -> float:
        """Texts a second of the reference in bulk."""
        rates = [
            record["texts"] / record["seconds"][self.reference.name]
            for record in self._store.rounds
            if self.reference.name in record["seconds"]
        ]
        return statistics.median(rates) if rates else self.probe_rate(self.reference)

    def singles(self, candidate: Candidate) -> list[float]:
        """Seconds of every text that a candidate embedded alone."""
        found = [
            taken
            for record in self._store.rounds
            for taken in record["singles"].get(candidate.name, ())
        ]
        return found or list(self.known(candidate).get("probe_singles", ()))

    def fidelity(self, candidate: Candidate) -> Fidelity | None:
        """Against the reference, on all texts that both have embedded; None for none."""
        key = candidate.name, self.reference.name, len(self._store.rounds)
        if key not in self._fidelities:
            self._fidelities[key] = self._compare(candidate)
        return self._fidelities[key]

    def _compare(self, candidate: Candidate) -> Fidelity | None:
        rows: list[tuple[Floats, Floats]] = []
        for chunk in (*sorted({record["chunk"] for record in self._store.rounds}), PROBE):
            if chunk == PROBE and rows:
                break  # its texts are in the chunks
            expected = self._store.embeddings(self.reference.name, chunk)
            found = self._store.embeddings(candidate.name, chunk)
            if expected is not None and found is not None and expected.shape == found.shape:
                rows.append((expected, found))
        if not rows:
            return None
        expected, found = (np.concatenate(side) for side in zip(*rows, strict=True))
        return compare(expected, found, self.known(self.reference)["facts"]["similarity"])

    def hopeless(self, candidate: Candidate) -> str:
        """Why more texts cannot make a candidate good enough; "" where they might."""
        fidelity = self.fidelity(candidate)
        return "" if fidelity is None else self._goal.hopeless(fidelity)

    def outdone(self, candidate: Candidate, others: Sequence[Candidate]) -> float:
        """A candidate's share of the best score among the others that serve as well; or 1.

        Another serves as well if it is as faithful, or surely faithful enough.
        """
        own = self.fidelity(candidate)
        serving = [candidate]
        for other in others:
            fidelity = self.fidelity(other)
            if own is None or fidelity is None:
                continue
            if fidelity.as_good_as(own) or self._goal.surely_met(fidelity):
                serving.append(other)
        return self.score(candidate) / max(map(self.score, serving))

    def shortfalls(self, candidate: Candidate) -> Mapping[str, float] | None:
        """What is missing to the goal, by name; None where nothing was measured."""
        fidelity = self.fidelity(candidate) if "facts" in self.known(candidate) else None
        return (
            None if fidelity is None else self._goal.shortfalls(fidelity, self.quality(candidate))
        )

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Of the labelled data: variant to `"pairs"` and `"retrieval"`."""
        return self._store.quality.setdefault(self._digest, {})

    def quality_scores(self, candidate: Candidate) -> dict[str, float]:
        """A candidate's, as far as they were measured."""
        return dict(self.scores.get(candidate.name, {}))

    def quality(self, candidate: Candidate) -> float | None:
        """The lowest ratio of a score to the reference's; None where there are no scores."""
        own, others = self.quality_scores(candidate), self.quality_scores(self.reference)
        ratios = [own[name] / others[name] for name in own if others.get(name)]
        return min(ratios) if ratios else None


def _one(figure: float | list[float]) -> float:
    return statistics.median(figure) if isinstance(figure, list) else figure
