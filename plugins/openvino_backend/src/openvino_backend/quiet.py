"""nncf without its remarks, and OpenVINO without its hand on what others log."""

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


@process_wide
@contextmanager
def root_logger_kept() -> Iterator[None]:
    """`openvino.convert_model` lets errors alone through the root logger while it works, and leaves
    it like that when it fails: nothing that a program logs would be seen from then on."""
    root = logging.getLogger()
    level = root.level
    try:
        yield
    finally:
        root.setLevel(level)
        for found in [one for one in root.filters if _of_openvino(one)]:
            root.removeFilter(found)
        for handler in [one for one in root.handlers if _of_openvino(one.formatter)]:
            root.removeHandler(handler)


def _of_openvino(thing: object) -> bool:
    return type(thing).__module__.startswith("openvino.")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
