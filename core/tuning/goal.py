"""What a choice is for, and what it must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import OptionError

if TYPE_CHECKING:
    from core.tuning.fidelity import Fidelity

#: Objective to what it is about, in the words of a report.
OBJECTIVES: Mapping[str, str] = {
    "throughput": "texts a second",
    "latency": "ms for one text",
    "memory": "resident memory",
}

#: The recall that is kept where the caller asks for nothing else.
DEFAULT_MIN_RECALL = 0.99


@dataclass(frozen=True)
class Goal:
    """What to make best, and what must be kept.

    Attributes:
        objective: One of `OBJECTIVES`.
        min_recall: Of the nearest neighbours by float32, the share to keep; None for any.
        min_cosine: Every text's embedding must be this close to its float32 one; None for any.
        max_quality_loss: Percent of the quality on labelled data that may be lost; None for any.
    """

    objective: str = "throughput"
    min_recall: float | None = None
    min_cosine: float | None = None
    max_quality_loss: float | None = None

    @classmethod
    def of(
        cls, objective: Any, min_recall: Any, min_cosine: Any, max_quality_loss: Any, labels: bool
    ) -> Goal:
        """A goal from what a caller gave; recall 0.99 where nothing is to be kept.

        Raises:
            OptionError: An unknown objective, a number out of range, or a loss without labels.
        """
        if not isinstance(objective, str) or objective not in OBJECTIVES:
            raise OptionError(
                f"objective must be {', '.join(map(repr, OBJECTIVES))}, not {objective!r}."
            )
        for name, value in (("min_recall", min_recall), ("min_cosine", min_cosine)):
            if value is not None and not (_is_number(value) and 0 <= value <= 1):
                raise OptionError(f"{name} must be between 0 and 1, not {value!r}.")
        loss = max_quality_loss
        if loss is not None and not (_is_number(loss) and 0 <= loss <= 100):
            raise OptionError(f"max_quality_loss is in percent, 0 to 100, not {loss!r}.")
        if loss is not None and not labels:
            raise OptionError(
                f"max_quality_loss={loss!r} needs labelled data to measure quality with: give "
                "pairs, or corpus, queries and qrels."
            )
        if min_recall is None and min_cosine is None and loss is None:
            min_recall = DEFAULT_MIN_RECALL
        return cls(objective, min_recall, min_cosine, loss)

    def hopeless(self, fidelity: Fidelity) -> str:
        """Why more texts cannot make this good enough; "" where they might."""
        if self.min_cosine is not None and fidelity.min_cosine < self.min_cosine:
            return f"drifts too far: minimum cosine {fidelity.min_cosine:.4f}"
        if self.min_recall is not None and fidelity.recall_interval[1] < self.min_recall:
            return f"drifts too far: recall@10 {fidelity.recall_at_10:.3f}"
        return ""

    def surely_met(self, fidelity: Fidelity) -> bool:
        """Whether more texts will not change that this is good enough."""
        if self.max_quality_loss is not None or self.min_cosine is not None:
            return False  # a minimum over more texts is lower
        return self.min_recall is None or fidelity.recall_interval[0] >= self.min_recall

    def shortfalls(self, fidelity: Fidelity, quality: float | None) -> dict[str, float]:
        """What is missing to the goal, by name, in units of what is asked; empty where it is met.

        Args:
            fidelity: Of a variant.
            quality: Its ratio to float32 on labelled data; None where it was not measured.
        """
        found = {}
        if self.min_recall is not None and fidelity.recall_at_10 < self.min_recall:
            found["recall@10"] = self.min_recall - fidelity.recall_at_10
        if self.min_cosine is not None and fidelity.min_cosine < self.min_cosine:
            found["minimum cosine"] = self.min_cosine - fidelity.min_cosine
        if self.max_quality_loss is not None:
            allowed = 1 - self.max_quality_loss / 100
            if quality is None or quality < allowed:
                found["quality"] = allowed - (quality or 0.0)
        return found

    def behind(self, share: float) -> str:
        """Why a variant with this share of the best one's score is dropped."""
        if self.objective == "memory":
            return f"{1 / share:.1f} times the memory of the best"
        return f"{share:.2f} times the speed of the best"

    def __str__(self) -> str:
        kept = []
        if self.min_recall is not None:
            kept.append(f"recall@10 of at least {self.min_recall:g}")
        if self.min_cosine is not None:
            kept.append(f"a cosine of at least {self.min_cosine:g} for every text")
        if self.max_quality_loss is not None:
            kept.append(f"at most {self.max_quality_loss:g} % of quality lost")
        return " and ".join(kept)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
