"""OpenVINO and nncf, imported without the usage statistics they would send.

Both report every import to their makers over the network unless the user opted out. `core` opens
no connection that its user did not ask for, so the module that sends is hidden from them while
they are imported; they then do without.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

from core.errors import UnsupportedOperation

_SENDER = "openvino_telemetry"
_importing = threading.RLock()


def import_quietly(name: str) -> Any:
    """The module, imported while the one that sends statistics cannot be found."""
    with _importing:
        if name in sys.modules or _SENDER in sys.modules:
            return importlib.import_module(name)
        sys.modules[_SENDER] = None  # type: ignore[assignment]  # what makes an import fail
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules[_SENDER]


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


openvino: Any = import_quietly("openvino")
