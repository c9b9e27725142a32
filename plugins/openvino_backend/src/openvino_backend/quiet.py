"""nncf without its remarks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from core.toolkit import process_wide, stderr_is_terminal
from openvino_backend.imports import unreported


@process_wide
@contextmanager
def quiet() -> Iterator[None]:
    """nncf logs every step at INFO and draws progress on standard output, which belongs to results:
    its warnings stay, its progress goes to standard error where that is a terminal. Nothing is
    reported to its maker."""
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(logging.WARNING)
    with unreported(), ExitStack() as stack:
        elsewhere = sys.stderr if stderr_is_terminal() else stack.enter_context(_nowhere())
        stack.enter_context(redirect_stdout(elsewhere))
        try:
            yield
        finally:
            log.setLevel(level)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
