"""Wrapping plugins see every call of the backend, once and in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import core
from core.plugin.plugin import PLUGIN_GROUP
from core.plugin.registry import registry
from core.testing.subject import TEXTS, Subject


class _Recording:
    """A wrapping plugin that notes which hooks it sees."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name, self._seen = name, seen

    @core.hookimpl(wrapper=True)
    def load(self) -> Generator[None, Any, Any]:
        self._seen.append(f"{self._name} load")
        return (yield)

    @core.hookimpl(wrapper=True)
    def encode(self, texts: list[str]) -> Generator[None, Any, Any]:
        self._seen.append(f"{self._name} encode {len(texts)}")
        return (yield)


@contextmanager
def _recording(*names: str) -> Iterator[list[str]]:
    seen: list[str] = []
    try:
        for name in names:
            core.register_plugin(name, _Recording(name, seen))
        yield seen
    finally:
        for name in names:
            registry.unregister(PLUGIN_GROUP, name)


class WrappingContract(Subject):
    """However a call is made, plugins see it."""

    def test_wrappers_see_each_call_once_and_in_order(self) -> None:
        """Outermost is the first by name; a backend does not call itself through its hooks."""
        self.shared()  # whatever has to be exported first is exported now
        with (
            _recording("conformance_b", "conformance_a") as seen,
            self.load() as model,
        ):
            assert seen == ["conformance_a load", "conformance_b load"]
            _ = model.dimension
            seen.clear()
            rows = model.encode(list(TEXTS))
            expected = [f"conformance_{name} encode {len(TEXTS)}" for name in "ab"]
            assert seen == expected
            seen.clear()
            hooked = core.hooks(self.backend).encode(model=model, texts=list(TEXTS))
            assert seen == expected
        self.assert_close(hooked, rows)
