"""What a run has to measure of one size of model, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.cells import Record
from benchmarks.plan import GridPlan
from benchmarks.progress import say
from benchmarks.quality import Task
from benchmarks.sizes import Size
from core.tuning.measure import Budget


class TimeIsUpError(Exception):
    """The run's time is over; what is missing is left to the next one."""


class ToDo:
    """The cells of one size, against what the record has of them.

    Attributes:
        counts: Texts of each length.
    """

    def __init__(self, record: Record, plan: GridPlan, size: Size, budget: Budget) -> None:
        self.record = record
        self.plan = plan
        self.size = size
        self.budget = budget
        self.counts = {
            length: max(round(count * plan.scale), 1) for length, count in size.texts.items()
        }

    def workloads(self) -> Iterator[tuple[str, int | None]]:
        """Length of the texts, and texts in a batch; None for a system's own choice."""
        yield from ((length, None) for length in self.counts)
        for batch in self.plan.batches:
            for length, count in self.counts.items():
                if length != "long" and count >= batch:
                    yield length, batch

    def missing(self, name: str) -> list[tuple[str, int | None]]:
        return [
            (length, batch)
            for length, batch in self.workloads()
            if not self.record.has("speed", *self.cell(name, length, batch))
        ]

    def cell(self, name: str, length: str, batch: int | None) -> tuple[str, ...]:
        return self.size.name, name, length, "default" if batch is None else str(batch)

    def missing_tasks(self, name: str, known: Sequence[Task]) -> list[Task]:
        return [
            task
            for task in known
            if not self.record.has("quality", self.size.name, name, task.name)
        ]

    def is_pending(self, name: str) -> bool:
        """Whether anything of a system is missing, as far as the record knows what there is."""
        described = self.record.content["sizes"].get(self.size.name)
        if described is None or self.missing(name):
            return True
        known = described["tasks"]
        return not all(self.record.has("quality", self.size.name, name, task) for task in known)

    def fail(self, name: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[-2_000:]
        say(self.size.name, name, "FAILED:", reason[-600:])
        self.record.put("failures", self.size.name, name, value={"reason": reason})

    def check_time(self) -> None:
        if self.budget.left <= 0:
            raise TimeIsUpError
