"""`Runner`: the parts of a job of `core.embed_dataset`, made by actors of a Ray cluster."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import core
from core_ray.budget import take_threads
from core_ray.sharing import load_shared

#: Parts that wait at an actor while it makes one: the next begins without a pause.
_AHEAD = 2
#: What `ray.init` takes to start a cluster of this machine alone.
_LOCAL = "local"


class Runner:
    """Makes the parts of a job on a Ray cluster.

    Args:
        address: Of a cluster, as `ray.init` takes it; "local" starts one on this machine, and None
            joins the one that this process is connected to, or starts one.
        actors: How many; None for as many as the cluster's free CPUs (or GPUs) allow.
        num_cpus: CPUs of an actor, which are its threads on every backend.
        num_gpus: GPUs of an actor.

    Raises:
        core.OptionError: A number cannot be used.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        actors: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
    ) -> None:
        for name, value, least in (("num_cpus", num_cpus, 0), ("num_gpus", num_gpus, 0)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < least:
                raise core.OptionError(
                    f"{name} must be a number of at least {least}, not {value!r}."
                )
        if actors is not None and (not isinstance(actors, int) or actors < 1):
            raise core.OptionError(f"actors must be a positive integer or None, not {actors!r}.")
        self._address = address
        self._actors = actors
        self._num_cpus = num_cpus
        self._num_gpus = num_gpus

    @contextmanager
    def start(self, job: Any, model: Any, loading: Mapping[str, Any]) -> Iterator[_Workers]:
        """Actors with the model. As `core.batch.runner.Runner.start`."""
        import ray

        if not isinstance(model, str) and hasattr(model, "encode"):
            raise core.OptionError(
                "On Ray every actor loads the model itself: give its name or its path, not a "
                "loaded model."
            )
        begun = not ray.is_initialized()
        if begun:
            self._connect(ray)
        actors: list[Any] = []
        try:
            count = self._actors or self._free(ray)
            worker = ray.remote(_Worker).options(
                num_cpus=self._num_cpus,
                num_gpus=self._num_gpus,
                max_restarts=-1,
                max_task_retries=-1,
            )
            shared = count > 1 and not self._num_gpus
            actors = [worker.remote(job, model, dict(loading), shared) for _ in range(count)]
            yield _Workers(actors)
        finally:
            for actor in actors:
                ray.kill(actor)
            if begun:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        quietly = {"log_to_driver": False, "include_dashboard": False}
        try:
            if self._address in (None, _LOCAL):
                ray.init(address=_LOCAL, **quietly)
            else:
                ray.init(address=self._address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise core.CoreError(f"No Ray cluster answers at {self._address!r}: {error}") from error

    def _free(self, ray: Any) -> int:
        """As many actors as fit what is free."""
        free = ray.available_resources()
        fits = [free.get("CPU", 1.0) / self._num_cpus] if self._num_cpus else []
        if self._num_gpus:
            fits.append(free.get("GPU", 0.0) / self._num_gpus)
        count = int(min(fits, default=1.0))
        if count < 1:
            raise core.CoreError(
                f"The cluster has not the resources of one actor free (num_cpus={self._num_cpus}, "
                f"num_gpus={self._num_gpus}); free are {free.get('CPU', 0):g} CPUs and "
                f"{free.get('GPU', 0):g} GPUs."
            )
        return count


def at_address(address: str) -> Runner:
    """The runner of `core batch --ray ADDRESS`."""
    return Runner(address)


class _Worker:
    """The actor: loads the model once, and makes one part at a time."""

    def __init__(self, job: Any, model: Any, loading: dict[str, Any], shared: bool) -> None:
        take_threads()
        self._job = job
        self._error: core.CoreError | None = None
        try:
            load = functools.partial(job.load, model)
            self._model = load_shared(load, loading) if shared else load(loading)
        except core.CoreError as error:  # an actor that ends while it begins is begun for ever
            self._error = error

    def identity(self) -> Any:
        if self._error is not None:
            return self._error
        try:
            return self._job.identity(self._model)
        except core.CoreError as error:
            return error

    def make(self, part: Any, identity: Any) -> Any:
        try:
            return self._job.make_part(part, self._model, identity)
        except core.CoreError as error:
            return error


class _Workers:
    """As `core.batch.runner.Workers`."""

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors

    def identity(self) -> dict[str, Any]:
        import ray

        found = [_checked(value) for value in ray.get([a.identity.remote() for a in self._actors])]
        if any(other != found[0] for other in found):
            raise core.CoreError(
                "The nodes of the cluster do not agree on the model: its files, the versions "
                "installed or the device differ between them. Install the same on all."
            )
        return dict(found[0])

    def make(
        self, parts: Sequence[Any], identity: Mapping[str, Any], tell: Callable[[int], None]
    ) -> Iterator[Any]:
        import ray

        waiting = iter(parts)
        sent: dict[Any, tuple[Any, Any]] = {}

        def send(actor: Any) -> None:
            part = next(waiting, None)
            if part is not None:
                sent[actor.make.remote(part, dict(identity))] = (actor, part)

        for _ in range(_AHEAD):
            for actor in self._actors:
                send(actor)
        while sent:
            (done,), _ = ray.wait(list(sent), num_returns=1)
            actor, part = sent.pop(done)
            record = _checked(ray.get(done))
            send(actor)
            tell(part.rows)
            yield record


def _checked(value: Any) -> Any:
    if isinstance(value, core.CoreError):
        raise value
    return value
