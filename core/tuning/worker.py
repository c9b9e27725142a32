"""The process that runs one variant: `python -m core.tuning.worker PARENT`.

Each variant has a process of its own: its memory and its start can be measured, its threads and
settings disturb no other, and a crash or a runtime that hangs costs only itself. Reads (method,
arguments) again and again from standard input and writes what `Subject` returns, or an exception.
"""

from __future__ import annotations

import pickle

from core.machine.child import receive_bytes, send
from core.machine.parent import portable, streams_of_parent
from core.tuning.subject import Subject


def main() -> None:
    """Serve the process whose number is the first argument."""
    incoming, outgoing = streams_of_parent()
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
