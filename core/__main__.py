"""`python -m core` and the `core` command."""

import atexit
import gc
import signal
import sys


def main() -> int:
    """Run the command line; what is interrupted while it is imported ends without a traceback.

    What ends processes politely (SIGTERM: `timeout`, a container that is stopped; SIGHUP: a
    terminal that is closed) ends a command as Ctrl-C does, so that unfinished files are put away.
    """
    # When Python ends it searches all objects for garbage: with PyTorch and transformers imported
    # that is a second of processor time for memory that the system takes back anyway. What models
    # and files need to be closed properly is closed by then.
    atexit.register(gc.freeze)
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        if number != signal.SIGINT:  # the second one needs no manners
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):  # `nohup` has the second ignored, Windows has none
        if (polite := getattr(signal, name, None)) and signal.getsignal(polite) is signal.SIG_DFL:
            signal.signal(polite, end)
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if usual:
            signal.signal(signal.SIGINT, end)
        try:
            from core.cli import main as run
        except ImportError:  # what modules in C make of an interrupt
            if came:
                raise KeyboardInterrupt from None
            raise
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run()
    except KeyboardInterrupt:
        print("core: interrupted.", file=sys.stderr)
        code = 130
    return 128 + came[0] if came else code


if __name__ == "__main__":
    sys.exit(main())
