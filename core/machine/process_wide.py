"""Changes to what a whole process shares (log levels, a module's functions), made by threads that
may overlap."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


def process_wide(
    change: Callable[[], AbstractContextManager[None]],
) -> Callable[[], AbstractContextManager[None]]:
    """Turn a context manager into one that the first thread enters and the last one leaves.

    Two threads that each saved and restored the state themselves would leave behind what the
    first had changed.
    """
    lock = threading.Lock()
    inside = 0
    entered: AbstractContextManager[None] | None = None

    @contextmanager
    @functools.wraps(change)
    def shared() -> Iterator[None]:
        nonlocal inside, entered
        with lock:
            if not inside:
                entered = change()
                entered.__enter__()
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside and entered is not None:
                    entered.__exit__(None, None, None)
                    entered = None

    return shared
