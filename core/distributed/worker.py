"""The process at the other end of `core.ProcessPool`: `python -m core.distributed.worker PARENT`.

Reads a pickled model from standard input, then (texts, options) again and again, and writes what
the backend made of them, or an exception, to standard output. Ends with its input or its parent,
whichever ends first, also in the middle of its work.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import sys
import threading
import traceback
from typing import IO

from core.errors import PluginError

_LENGTH = struct.Struct(">Q")

# The pipe tells at once that the parent is gone, unless another of its children holds it too.
_LOOK_SECONDS = 1.0


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message: its length, then the pickle."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive_bytes(stream: IO[bytes]) -> bytes:
    """One message as it was pickled.

    Raises:
        EOFError: The other end is gone.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    """Serve the process whose number is the first argument."""
    incoming, outgoing = streams_of_parent()
    try:
        state = receive_bytes(incoming)
        try:
            model = pickle.loads(state)
        except Exception as error:
            send(outgoing, pickle.dumps(portable(error)))
            return
        send(outgoing, pickle.dumps(True))
        while True:
            texts, options = pickle.loads(receive_bytes(incoming))
            try:
                rows = model.with_prompt(texts, options.prompt or "")
                result = model.hooks.raw_encode(model, rows, options)
            except Exception as error:
                result = portable(error)
            send(outgoing, pickle.dumps(result, protocol=5))
    except (EOFError, BrokenPipeError):
        return


def streams_of_parent() -> tuple[IO[bytes], IO[bytes]]:
    """What the process whose number is the first argument writes to this one, and reads from it.

    From here on this process ends with that one.
    """
    # The parent decides when to end; Ctrl-C in a terminal reaches every process of the group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(select, "poll"):
        threading.Thread(target=end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the answers.
    os.dup2(2, 1)
    return incoming, outgoing


def end_with_parent(parent: int) -> None:
    """A thread's life: end the process when nobody is left who wants its results."""
    poll = select.poll()
    poll.register(0, 0)  # of no event but the other end's closing
    while not poll.poll(_LOOK_SECONDS * 1_000) and os.getppid() == parent:
        pass
    os._exit(1)


def portable(error: Exception) -> Exception:
    """The exception itself where it survives pickling, else a PluginError with its message."""
    trace = "".join(traceback.format_exception(error)).strip()
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = PluginError(f"{type(error).__name__}: {error}")
    copy.add_note(trace)
    return copy


if __name__ == "__main__":
    main()
