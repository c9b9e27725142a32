"""Runtimes whose threads a forked process lacks: an error instead of waiting for them for good."""

from __future__ import annotations

import os

from core.errors import CoreError

_first_used_in: dict[type, int] = {}


def check_fork(runtime: type) -> None:
    """Note that a kind of runtime computes in this process.

    Raises:
        CoreError: It has computed in a process that this one was forked from.
    """
    process = os.getpid()
    first = _first_used_in.setdefault(runtime, process)
    if first != process:
        raise CoreError(
            f"encode was called in process {first} before this one ({process}) was forked from it, "
            "and the threads it started there do not exist here. Fork before the first encode, "
            "start processes with multiprocessing's 'spawn', or use core.ProcessPool."
        )
