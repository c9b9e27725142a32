"""The process that runs one variant: `python -m core.tuning.worker PARENT`.

Each variant has a process of its own: its memory and its start can be measured, its threads and
settings disturb no other, and a crash or a runtime that hangs costs only itself. Reads (method,
arguments) again and again from standard input and writes what `Subject` returns, or an exception.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading

from core.distributed.worker import end_with_parent, portable, receive_bytes, send
from core.tuning.subject import Subject


def main() -> None:
    """Serve the process whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    if hasattr(select, "poll"):
        threading.Thread(target=end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    try:
        subject = Subject()
        while True:
            method, arguments = pickle.loads(receive_bytes(incoming))
            try:
                result = getattr(subject, method)(*arguments)
            except Exception as error:
                result = portable(error)
            send(outgoing, pickle.dumps(result, protocol=5))
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
