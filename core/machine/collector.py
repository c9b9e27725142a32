"""Python's search for garbage, which takes time where much is made and nothing thrown away."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from core.machine.process_wide import process_wide

_switched_off = False


def _switch_on() -> None:
    if _switched_off:
        gc.enable()


# A process that is forked meanwhile has no thread that would switch it on again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_switch_on)


@process_wide
@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for garbage inside, in no thread; whoever has switched it off keeps it off.

    PyTorch and transformers make a million objects while they are imported, and all of them stay:
    to search those again and again is a sixteenth of what they take until the first embedding.
    """
    global _switched_off
    _switched_off = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _switch_on()
        _switched_off = False
