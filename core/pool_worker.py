"""The process at the other end of `core.ProcessPool`: `python -m core.pool_worker`.

Reads a pickled model from standard input, then (texts, options) again and again, and writes an
array or an exception for each to standard output. Ends with its input.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from typing import IO, Any

_LENGTH = struct.Struct(">Q")


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message: its length, then its pickle."""
    data = message if isinstance(message, bytes) else pickle.dumps(message, protocol=5)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message.

    Raises:
        EOFError: The other end is gone.
    """
    return pickle.loads(receive_bytes(stream))


def receive_bytes(stream: IO[bytes]) -> bytes:
    """One message as it was pickled."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    # The parent decides when to end; Ctrl-C in a terminal reaches every process of the group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the answers.
    os.dup2(2, 1)
    try:
        state = receive_bytes(incoming)
        try:
            model = pickle.loads(state)
        except Exception as error:
            send(outgoing, _portable(error))
            return
        send(outgoing, True)
        while True:
            texts, options = receive(incoming)
            try:
                result = model.hooks.encode(model=model, texts=texts, options=options)
            except Exception as error:
                result = _portable(error)
            send(outgoing, result)
    except (EOFError, BrokenPipeError):
        return


def _portable(error: Exception) -> Exception:
    """The exception itself where it survives pickling, else a PluginError with its words."""
    import traceback

    from core.errors import PluginError

    trace = "".join(traceback.format_exception(error)).strip()
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = PluginError(f"{type(error).__name__}: {error}")
    copy.add_note(trace)
    return copy


if __name__ == "__main__":
    main()
