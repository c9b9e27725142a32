"""Where the parts of a job are made: in this process, or where another distribution runs them.

A distribution offers a runner for `core batch` through the entry-point group `core.batch_runners`:
a function that takes the address given to `--NAME` and returns a `Runner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from core.batch.job import Job
from core.batch.records import PartRecord
from core.batch.rows import Part
from core.models.model import Model


class Workers(Protocol):
    """Something that has the model and makes parts."""

    def identity(self) -> dict[str, Any]:
        """`Job.identity` of the model, as the workers loaded it."""
        ...

    def make(
        self, parts: Sequence[Part], identity: Mapping[str, Any], tell: Callable[[int], None]
    ) -> Iterator[PartRecord]:
        """Make the parts in any order, each by `Job.make_part`; yield each when it is finished.

        Args:
            tell: Is given the number of rows that were embedded since.
        """
        ...


class Runner(Protocol):
    """Starts workers. A `Job` can be pickled, and its `load` opens a model where workers are."""

    def start(
        self, job: Job, model: Any, loading: Mapping[str, Any]
    ) -> AbstractContextManager[Workers]:
        """Workers with the model; they are gone when the context ends.

        Args:
            model: A loaded model, or what `core.load` takes.
            loading: Options of the function that loads it.
        """
        ...


class InThisProcess:
    """The runner that makes one part after the other here."""

    @contextmanager
    def start(self, job: Job, model: Any, loading: Mapping[str, Any]) -> Iterator[Workers]:
        """As `Runner.start`."""
        if isinstance(model, Model):
            yield _Here(job, model)
            return
        with job.load(model, loading) as opened:
            yield _Here(job, opened)


class _Here:
    def __init__(self, job: Job, model: Model) -> None:
        self._job, self._model = job, model

    def identity(self) -> dict[str, Any]:
        return self._job.identity(self._model)

    def make(
        self, parts: Sequence[Part], identity: Mapping[str, Any], tell: Callable[[int], None]
    ) -> Iterator[PartRecord]:
        for part in parts:
            yield self._job.make_part(part, self._model, identity, tell)
