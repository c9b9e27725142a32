"""Forked processes: a runtime's threads do not exist in them.

What would wait there forever is an error (`check_fork`), and what can only be freed together with
its threads is never freed there (`abandon_in_forks`).
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from core.errors import CoreError

_has_tokenized = False
_first_used_in: dict[type, int] = {}
_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], Iterable[object]]] = (
    weakref.WeakKeyDictionary()
)

_ADVICE = "start processes with multiprocessing's 'spawn', or use core.ProcessPool."


def check_fork(runtime: Any) -> None:
    """Note that a `core.Runtime` computes in this process.

    Raises:
        CoreError: It cannot: a runtime of its kind has computed in a process that this one was
            forked from, or it holds the memory of a device, which processes do not share.
    """
    process = os.getpid()
    opened = getattr(runtime, "process", process)
    if opened != process and not runtime.device.lower().startswith("cpu"):
        raise CoreError(
            f"The model was loaded on {runtime.device} in process {opened} before this one "
            f"({process}) was forked from it, and a forked process cannot use that device's "
            f"memory. Load the model in each process, {_ADVICE}"
        )
    if runtime.survives_fork:
        return
    first = _first_used_in.setdefault(type(runtime), process)
    if first != process:
        raise CoreError(
            f"encode was called in process {first} before this one ({process}) was forked from it, "
            "and the threads it started there do not exist here. Fork before the first encode, "
            f"{_ADVICE}"
        )


def note_tokenizer_threads() -> None:
    """Note that `tokenizers` has started threads, which processes forked from here do not have."""
    global _has_tokenized
    _has_tokenized = True


def abandon_in_forks(owner: object, abandon: Callable[[Any], Iterable[object]]) -> None:
    """Let `abandon(owner)` run in every process forked from this one while the owner lives.

    It forgets what the runtime holds, as far as that cannot be used there, and returns it and
    whatever else must not be freed: freeing joins threads, which waits forever or crashes,
    also at the end of the process.
    """
    _owners[owner] = abandon


def _in_child() -> None:
    if _has_tokenized:
        # The threads of tokenizers are missing too: if this were true, it would wait for them.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for owner, abandon in list(_owners.items()):
        for held in abandon(owner):
            # One reference too many: not even the end of the interpreter frees it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
