"""`core_ray.embed_dataset`: a job over files on a Ray cluster."""

from __future__ import annotations

import os
from typing import Any

import core
from core_ray.runner import Runner


def embed_dataset(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    address: str | None = None,
    actors: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    **options: Any,
) -> core.DatasetReport:
    """`core.embed_dataset`, with the parts made by actors of a Ray cluster.

    The result is that of one process: a job may be begun on one machine and finished on a cluster
    with the same versions. Every node must reach `source`, `target` and `model`. An actor or a node
    that dies loses the part it was making, which another actor makes again.

    Args:
        source, target: As `core.embed_dataset`.
        model: What `core.load` takes; every actor loads it.
        address, actors, num_cpus, num_gpus: Of `core_ray.Runner`.
        **options: Of `core.embed_dataset`, `core.load` and `encode`.

    Raises:
        core.OptionError, core.CoreError: As `core.embed_dataset`; and no cluster answers at
            `address`, its nodes do not agree on the model, or it has no room for an actor.
    """
    runner = Runner(address, actors=actors, num_cpus=num_cpus, num_gpus=num_gpus)
    return core.embed_dataset(source, target, model, runner=runner, **options)
