"""PyTorch's threads on a CPU: no more than this process may use, or one for each batch.

Several batches at once, each on a thread of its own, spare the barrier after every operator that
threads sharing one batch wait at: docs/performance.md has the measurements.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from core.toolkit import THREADS_VARIABLE, available_cpus

_lock = threading.Lock()
_POLL_SECONDS = 0.0001


def limit_threads() -> int:
    """Keep PyTorch within the processors this process may use; returns its threads.

    By itself it starts one for every core of the machine, also in a container that may use two.
    """
    cpus, threads = available_cpus(), int(torch.get_num_threads())
    if threads > cpus or os.environ.get(THREADS_VARIABLE):
        torch.set_num_threads(cpus)
        return cpus
    return threads


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute on the calling thread alone; other threads keep all of PyTorch's.

    The number of threads belongs to the thread that sets it, but setting it also changes what
    threads yet unknown to PyTorch begin with, so a passing one puts that back.
    """
    with _alone():
        threads = int(torch.get_num_threads())
        torch.set_num_threads(1)
        restoring = threading.Thread(target=torch.set_num_threads, args=(threads,))
        restoring.start()
        restoring.join()
    try:
        yield
    finally:
        with _alone():
            torch.set_num_threads(threads)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock, asking for it again and again instead of waiting.

    Where gevent has replaced threads since this module was imported, what waits for an older lock
    keeps the holder from going on: both run in one thread of the system.
    """
    while not _lock.acquire(blocking=False):
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _lock.release()
