"""What the plugin path costs: a call through every layer against the backend's own function.

The backend returns a prepared array at once, so that nothing but the path is measured: pluggy,
three wrapping plugins, the trail that names culprits, the checks of the result, and the typed
front. Rounds alternate between the two, and the difference is taken within a round, so that a
busy machine slows both. The chain alone is also compared with pluggy's own caller, which keeps no
result between wrappers (docs/dependencies.md).

    python benchmarks/hook_overhead.py
"""

from __future__ import annotations

import statistics
import sys
import time
import timeit
from collections.abc import Generator
from typing import Any

import numpy as np
import pluggy

import core
from core.plugin import hookspecs
from core.plugin.registry import registry

WRAPPERS = 3
CALLS, ROUNDS = 2_000, 60
LIMIT_MICROSECONDS = 10.0


class Prepared:
    """Returns one array."""

    SOURCE = "name"

    def __init__(self) -> None:
        self.rows = np.ones((1, 384), np.float32)

    @core.hookimpl
    def load(self, source: core.Checkpoint, options: core.LoadOptions) -> core.EmbeddingModel:
        return core.EmbeddingModel(source, None, dimension=384)

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: Any) -> Any:
        return self.rows


class Passing:
    """Wraps and does nothing."""

    @core.hookimpl(wrapper=True)
    def encode(self, model: Any, texts: Any, options: Any) -> Generator[None, Any, Any]:
        return (yield)


def main() -> int:
    """Print microseconds per call; 1 when the path costs more than the limit."""
    backend = Prepared()
    core.register_backend("prepared", backend)
    wrappers = [Passing() for _ in range(WRAPPERS)]
    for number, wrapper in enumerate(wrappers):
        core.register_plugin(f"passing_{number}", wrapper)
    model = core.load("nothing", backend="prepared")
    hooks, texts, options = model.hooks, ["a text"], core.EncodeOptions()
    calls: dict[str, Any] = {
        "hooks.encode": lambda: hooks.encode(model, texts, options),
        "model.encode": lambda: model.encode(texts),
        "the chain": _chain(backend, wrappers, model, texts, options),
        "pluggy's": _pluggy(backend, wrappers, model, texts, options),
    }
    direct: list[float] = []
    costs: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        base = _microseconds(lambda: backend.encode(model, texts, options))
        direct.append(base)
        for name, call in calls.items():
            costs[name].append(_microseconds(call) - base)
    print(f"{'direct call':14} {min(direct):6.2f} us, median {statistics.median(direct):6.2f}")
    for name, values in costs.items():
        print(f"{name:14} {min(values):+6.2f} us, median {statistics.median(values):+6.2f}")
    return int(min(costs["hooks.encode"]) > LIMIT_MICROSECONDS)


def _chain(backend: Any, wrappers: list[Any], *arguments: Any) -> Any:
    """The call of the hook that `core` makes, checks and front left out."""
    chain = registry.backend("prepared").chains["encode"]
    given = dict(zip(("model", "texts", "options"), arguments, strict=True))
    return lambda: chain(given, [])


def _pluggy(backend: Any, wrappers: list[Any], *arguments: Any) -> Any:
    """The same through pluggy's caller, which records nothing."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for plugin in (backend, *wrappers):
        manager.register(plugin)
    model, texts, options = arguments
    return lambda: manager.hook.encode(model=model, texts=texts, options=options)


def _microseconds(call: Any) -> float:
    # Time of this thread on a processor: what others run meanwhile does not count.
    return timeit.timeit(call, timer=time.thread_time, number=CALLS) / CALLS * 1e6


if __name__ == "__main__":
    sys.exit(main())
