"""`CORE_TRACE_HOOKS=1`: every hook call on standard error, with its time and each plugin's share.

    [core] encode on mine: model=<EmbeddingModel ...>, texts=2 texts
    [core]   backend 'mine' of distribution core-mine 0.1: 1.93 ms
    [core]   plugin 'metrics' of distribution core-metrics 0.1: 0.02 ms around it
    [core] encode on mine: 1.99 ms, float32 [2, 64]

The first line comes before the call, so that a hook that hangs can be seen. The variable is read
when a backend is first used; when it is off, nothing here is in the way of a call.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from core.plugin.plugin import Call, Plugin, Trail

TRACE_VARIABLE = "CORE_TRACE_HOOKS"

_SHOWN = 120


def enabled() -> bool:
    """Whether hook calls are traced."""
    return os.environ.get(TRACE_VARIABLE, "") not in ("", "0")


def traced(call: Call, hook: str, backend: str) -> Call:
    """A hook's call that prints when it begins and how it ends."""

    def traced_call(arguments: Mapping[str, Any], trail: Trail) -> Any:
        given = ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())
        _print(f"{hook} on {backend}: {given}")
        start = time.perf_counter()
        end = "stopped"
        try:
            result = call(arguments, trail)
            end = _shown(result)
        except BaseException as error:
            end = f"raised {error!r}"
            raise
        finally:
            _print(f"{hook} on {backend}: {_milliseconds(time.perf_counter() - start)}, {end}")
        return result

    return traced_call


def timed(plugin: Plugin, function: Callable[..., Any], *, wrapper: bool) -> Callable[..., Any]:
    """An implementation that prints its own time: a wrapper's without what it wraps."""
    if wrapper:
        return _timed_wrapper(plugin, function)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            _print(f"  {plugin}: {_milliseconds(time.perf_counter() - start)}")

    return call


def _timed_wrapper(
    plugin: Plugin, function: Callable[..., Any]
) -> Callable[..., Generator[None, Any, Any]]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Generator[None, Any, Any]:
        start, inside = time.perf_counter(), 0.0
        generator = function(*arguments, **keywords)
        resume: Callable[[Any], Any] = generator.send
        value: Any = None
        try:
            while True:
                resume(value)
                left = time.perf_counter()
                try:
                    resume, value = generator.send, (yield)
                except BaseException as error:
                    resume, value = generator.throw, error
                inside += time.perf_counter() - left
        except StopIteration as stop:
            return stop.value
        finally:
            own = time.perf_counter() - start - inside
            _print(f"  {plugin}: {_milliseconds(own)} around it")

    return call


def _print(line: str) -> None:
    print(f"[core] {line}", file=sys.stderr, flush=True)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _shown(value: Any) -> str:
    """Short and without texts: what users embed does not belong in a log."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} texts" if all(isinstance(v, str) for v in value) else f"{len(value)}"
    text = str(value) if not hasattr(value, "__dataclass_fields__") else _fields(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _fields(options: Any) -> str:
    """The options that differ from their defaults, secrets in mappings left out."""
    plain = type(options)()
    stated = []
    for name in options.__dataclass_fields__:
        value = getattr(options, name)
        if value != getattr(plain, name):
            shown = f"{{{', '.join(value)}}}" if isinstance(value, Mapping) else repr(value)
            stated.append(f"{name}={shown}")
    return f"{type(options).__name__}({', '.join(stated)})"
