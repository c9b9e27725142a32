"""ONNX Runtime's Python tools and PyTorch's exporter without their remarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.toolkit import available_cpus, process_wide

# They log through the root logger and through loggers named like their modules.
_LOGGERS = (
    "",
    "onnxruntime.transformers",
    "fusion_attention",
    "fusion_base",
    "onnx_model",
    "onnx_model_bert",
)


class _OnlyErrors(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


def quiet_options(threads: int | None = None) -> Any:
    """Options of a session that logs errors only.

    Args:
        threads: How many compute; None for as many as core may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = available_cpus() if threads is None else threads
    options.inter_op_num_threads = 1
    # Threads that share a batch spin while they wait for each other, which takes a quarter less
    # than sleeping; spinning on after the batch would starve whatever else runs on the machine.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


@process_wide
@contextmanager
def quiet_tools() -> Iterator[None]:
    """Hide what is below an error: advice to preprocess, fusions that found nothing."""
    only_errors = _OnlyErrors()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    # logging.warning() gives a root logger without handlers one permanently; this one is removed.
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


@process_wide
@contextmanager
def quiet_calibration() -> Iterator[None]:
    """Nothing of static quantization on standard output or error.

    Its module prints its progress, and its sessions warn of constants it put into the graph itself.
    """
    from onnxruntime.quantization import calibrate

    base = calibrate.CalibraterBase
    loud = base.create_inference_session
    calibrate.print = _say_nothing
    base.create_inference_session = _open_quietly
    try:
        yield
    finally:
        del calibrate.print  # the built-in function shows again
        base.create_inference_session = loud


@process_wide
@contextmanager
def quiet_tracer() -> Iterator[None]:
    """Without what PyTorch's exporter logs of its own steps, and the graph it prints on failing."""
    import torch

    log = logging.getLogger("torch.onnx")
    level, loud = log.level, getattr(torch._C, "_jit_onnx_log", None)
    log.setLevel(logging.ERROR)
    if loud is not None:
        torch._C._jit_onnx_log = _say_nothing
    try:
        yield
    finally:
        log.setLevel(level)
        if loud is not None:
            torch._C._jit_onnx_log = loud


def _say_nothing(*_: Any, **__: Any) -> None: ...


def _open_quietly(calibrater: Any) -> None:
    """`CalibraterBase.create_inference_session` with a session that logs errors only."""
    import onnxruntime

    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Ranges are found as values come up, or all values of a batch would be held to its end; and an
    # arena would keep what each of ever new shapes has needed.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    calibrater.infer_session = onnxruntime.InferenceSession(
        calibrater.augmented_model_path,
        sess_options=options,
        providers=calibrater.execution_providers,
    )
