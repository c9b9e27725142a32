"""Models in several processes, with the reference's methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from core.arguments import check_kind
from core.distributed.pool import ProcessPool
from core.errors import OptionError
from core.machine.cpus import available_cpus
from core.sentence_transformers.arguments import plain
from core.sentence_transformers.placement import Placement

_MOST_PROCESSES = 4


class Processes(Placement):
    """`start_multi_process_pool` and `stop_multi_process_pool`."""

    def start_multi_process_pool(self, target_devices: Sequence[Any] | None = None) -> ProcessPool:
        """Processes that each load the model: one a device; on a CPU as many as it has cores.

        Give the result to `encode(pool=...)`, or to `predict` of a reranker; it is also a context
        manager.
        """
        if target_devices is None:
            return ProcessPool(self.embedding_model, min(available_cpus(), _MOST_PROCESSES))
        if not isinstance(target_devices, list | tuple):
            raise OptionError(f"target_devices must be a list of devices, not {target_devices!r}.")
        devices = [str(plain(device)) for device in target_devices]
        return ProcessPool(self.embedding_model, devices=devices)

    @staticmethod
    def stop_multi_process_pool(pool: ProcessPool) -> None:
        """End the processes."""
        check_kind("pool", pool, ProcessPool)
        pool.close()

    @contextmanager
    def _spread(self, device: Any, pool: ProcessPool | None) -> Iterator[Any]:
        """What runs a call: the pool, one that is started for a list of devices, or the model,
        which a device alone moves."""
        if pool is not None:
            check_kind("pool", pool, ProcessPool)
            yield pool
        elif isinstance(device, list | tuple) and device:
            with self.start_multi_process_pool(device) as started:
                yield started
        else:
            if device is not None and not isinstance(device, list | tuple):
                self.to(device)
            yield self.embedding_model
