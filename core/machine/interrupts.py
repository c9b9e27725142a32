"""Ctrl-C where a compiled module hides it."""

from __future__ import annotations


def raise_interrupt(error: BaseException) -> None:
    """Raise the KeyboardInterrupt that an error was made of, if it was.

    A compiled module that is interrupted while it is imported says that its initialization failed,
    and names the interrupt as the cause (pybind11 does): told as that, a user would install it
    again. What an error was merely raised beside (its context) says nothing.

    Raises:
        KeyboardInterrupt: An explicit cause of `error` is one.
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt(*cause.args) from error
        seen.add(id(cause))
        cause = cause.__cause__
