"""How many threads an actor computes with: what the scheduler gave it."""

from __future__ import annotations

import os

from core.toolkit import THREADS_VARIABLE


def take_threads() -> int | None:
    """Let every backend of this process use the CPUs that Ray assigned; returns how many.

    Ray sets `OMP_NUM_THREADS` alone, which ONNX Runtime and OpenVINO do not read. Call it before a
    model is loaded. Outside an actor, and where the user has set `$CORE_NUM_THREADS`, nothing is
    changed, and None is returned.
    """
    import ray

    if THREADS_VARIABLE in os.environ or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    cpus = context.get_assigned_resources().get("CPU", 0)
    threads = max(1, int(cpus))
    os.environ[THREADS_VARIABLE] = str(threads)
    return threads
