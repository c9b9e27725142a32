"""ONNX Runtime's Python tools without their remarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from core.process_wide import process_wide

# They log through the root logger and through loggers named like their modules.
_LOGGERS = ("", "onnxruntime.transformers", "fusion_base", "onnx_model", "onnx_model_bert")


class _OnlyErrors(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


@process_wide
@contextmanager
def quiet_tools() -> Iterator[None]:
    """Hide what is below an error: advice to preprocess, fusions that found nothing."""
    only_errors = _OnlyErrors()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    # logging.warning() gives a root logger without handlers one for good; this one goes again.
    handler = logging.NullHandler()
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.addFilter(only_errors)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(only_errors)
        loggers[0].removeHandler(handler)
