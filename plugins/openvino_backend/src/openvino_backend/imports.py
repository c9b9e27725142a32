"""OpenVINO and nncf, without the usage statistics they would send.

Both report every import, conversion and quantization to their makers over the network unless the
user opted out. `core` opens no connection that its user did not ask for, so the module that sends
is hidden from them while they are imported; they then do without. Where a program imported them
itself, they have that module, and nothing is sent of what happens inside `unreported`.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import UnsupportedOperation

_SENDER = "openvino_telemetry"
#: What its class `Telemetry` sends with.
_SENDING = ("send_event", "start_session", "end_session", "send_error", "send_stack_trace")
_importing = threading.RLock()


class _Silent(threading.local):
    """Whether this thread is inside `unreported`."""

    now = False


_silent = _Silent()


def import_quietly(name: str) -> Any:
    """The module, imported while the one that sends statistics cannot be found."""
    with _importing:
        if name in sys.modules:
            return importlib.import_module(name)
        known = sys.modules.get(_SENDER)
        sys.modules[_SENDER] = None  # type: ignore[assignment]  # what makes an import fail
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules[_SENDER]
            if known is not None:
                sys.modules[_SENDER] = known


def import_nncf(what: str) -> Any:
    """nncf, for the operation named `what`.

    Raises:
        UnsupportedOperation: It is not installed; the message has the command.
    """
    import_quietly("openvino")
    try:
        return import_quietly("nncf")
    except ImportError as error:
        raise UnsupportedOperation(
            f"{what} needs nncf, which cannot be imported ({error}). Install it: "
            "`pip install core[openvino,quantize]`."
        ) from error


@contextmanager
def unreported() -> Iterator[None]:
    """Nothing is sent of what this thread does with OpenVINO and nncf, whoever imported them."""
    telemetry = getattr(sys.modules.get(_SENDER), "Telemetry", None)
    with _importing:
        for name in _SENDING if telemetry is not None else ():
            send = getattr(telemetry, name, None)
            if send is not None and not hasattr(send, "__wrapped__"):
                setattr(telemetry, name, _unless_silent(send))
    before, _silent.now = _silent.now, True
    try:
        yield
    finally:
        _silent.now = before


def _unless_silent(send: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(send)
    def sending(*arguments: Any, **named: Any) -> None:
        if not _silent.now:
            send(*arguments, **named)

    return sending


openvino: Any = import_quietly("openvino")
