"""What a process does that was started by `core.machine.child.Child`."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any

from core.errors import PluginError
from core.machine.child import receive_bytes, send

# The pipe tells at once that the parent is gone, unless another of its children holds it too.
_LOOK_SECONDS = 1.0


def serve(answer: Callable[[Any, Any], Any]) -> None:
    """Serve the process whose number is the first argument, until its end or that of the input.

    Reads a pickled state from standard input, then messages, and writes `answer(state, message)`
    of each, or the exception it raised, to standard output.
    """
    incoming, outgoing = streams_of_parent()
    try:
        first = receive_bytes(incoming)
        try:
            state = pickle.loads(first)
        except Exception as error:
            send(outgoing, pickle.dumps(portable(error)))
            return
        send(outgoing, pickle.dumps(True))
        while True:
            message = pickle.loads(receive_bytes(incoming))
            try:
                result = answer(state, message)
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
    if sys.platform != "win32":  # there the end of the pipe is seen between two messages
        threading.Thread(target=end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the answers.
    os.dup2(2, 1)
    return incoming, outgoing


if sys.platform != "win32":

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
