"""Compiling a graph with a bound on the kernels it keeps ready.

For every shape of a batch OpenVINO's CPU plugin prepares kernels, a fifth of a megabyte in all, and
keeps thousands; oneDNN below it keeps another thousand for the whole process. Texts come in any
shape, so without bounds a server grows for hours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from openvino_backend.imports import openvino

#: Of a compiled graph, in each stream; the least recently used go first. The property is missing
#: from OpenVINO's documentation, but its CPU plugin takes it: tried with 2025.0 and 2026.4.
GRAPH_CACHE = ("CPU_RUNTIME_CACHE_CAPACITY", 64)
#: Of the process; oneDNN reads it once, when it makes its first kernel.
ONEDNN_CACHE = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

_environment = threading.Lock()


def compile_bounded(
    runtime: openvino.Core, graph: openvino.Model, device: str, settings: Mapping[str, Any]
) -> openvino.CompiledModel:
    """`runtime.compile_model`; what the caller sets wins over the bounds.

    Raises:
        RuntimeError, TypeError: As OpenVINO does.
    """
    if device != "CPU":
        return runtime.compile_model(graph, device, settings)
    name, capacity = GRAPH_CACHE
    with _small_onednn_cache():
        try:
            return runtime.compile_model(graph, device, {name: capacity, **settings})
        except RuntimeError as error:
            if name in settings or name not in str(error):
                raise
        return runtime.compile_model(graph, device, settings)


@contextmanager
def _small_onednn_cache() -> Iterator[None]:
    """Set for as long as it takes OpenVINO's oneDNN to read it: other libraries have their own."""
    name, capacity = ONEDNN_CACHE
    with _environment:
        if name in os.environ:
            yield
            return
        os.environ[name] = capacity
        try:
            yield
        finally:
            del os.environ[name]
