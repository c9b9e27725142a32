"""One command of core, in a process that ends with its server: `python -m core_ui.child info DIR`.

Standard input is a pipe that the server holds. When it closes, because a job is cancelled or the
server is gone, the command is interrupted as by Ctrl-C and puts away what it began.
"""

from __future__ import annotations

import _thread
import logging
import os
import runpy
import signal
import sys
import threading
import time

#: How long a command may take to put away what it began.
PATIENCE_SECONDS = 20.0


def main() -> None:
    """Run what the arguments say, each stage a line on standard error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    threading.Thread(target=_end_with_the_server, args=(os.dup(0),), daemon=True).start()
    with open(os.devnull) as nothing:  # noqa: PTH123 - a name, not a path of ours
        os.dup2(nothing.fileno(), 0)  # what the command starts must not hold the pipe
    progress = logging.getLogger("core.progress")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    progress.addHandler(handler)
    progress.setLevel(logging.INFO)
    progress.propagate = False
    sys.argv[0] = "core"
    runpy.run_module("core", run_name="__main__")


def _end_with_the_server(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)  # which ends a system call that waits, too
    else:
        _thread.interrupt_main()
    time.sleep(PATIENCE_SECONDS)
    os._exit(130)


if __name__ == "__main__":
    main()
