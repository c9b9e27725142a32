"""The backend under test and its model, shared by all parts of the contract."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

import core
from core.plugin.registry import registry
from core.testing.traces import Traces, watched

LACKS = ("save", "token_embeddings", "reference", "entry_point", "long_texts")

TEXTS = (
    "A backend turns texts into vectors.",
    "short",
    "The same sentence may stand alone, or among many others of quite different lengths, and "
    "nobody should be able to tell from its embedding which of the two it was.",
    "naïve café, Zürich, Łódź",
    "机器学习模型把文本变成向量",
    "深度学习",
    "emoji 🙂🚀 and a family 👩‍👩‍👧",
    "UPPER lower 123 456.789 !?",
    "two\nlines\tand a tab",
)

#: Inputs that are easily forgotten.
UNUSUAL_TEXTS = {
    "empty": "",
    "blank": " \n\t ",
    "accents": "e\u0301 u\u0308",
    "right to left": "שלום عليكم",
    "zero": "a\0b",
    "long": "word " * 4_000,
}

#: Whose code is not the backend's.
_SHARED_PACKAGES = {"core", "builtins", "numpy", "torch", "onnxruntime", "openvino"}


class Subject:
    """What a subclass states; see `BackendConformance`."""

    backend: ClassVar[str]
    model: ClassVar[str | os.PathLike[str]] = "conformance"
    load_arguments: ClassVar[Mapping[str, Any]] = {}
    reference: ClassVar[Mapping[str, Sequence[float]] | None] = None
    reference_backend: ClassVar[str | None] = None
    min_cosine: ClassVar[float] = 0.9999
    tolerance: ClassVar[float] = 1e-5
    runtime_modules: ClassVar[Collection[str]] = ()
    variables: ClassVar[Collection[str]] = ()
    lacks: ClassVar[Collection[str]] = ()

    _loaded: ClassVar[core.EmbeddingModel | None] = None
    _rows: ClassVar[Any] = None
    _left: ClassVar[Traces | None] = None
    _broken_in: ClassVar[str | None] = None

    def test_it_loads_and_embeds(self) -> None:
        """Without this nothing else can be tested: the tests that need a model are skipped."""
        assert self.rows().shape == (len(TEXTS), self.shared().dimension)

    @classmethod
    def load(cls, **arguments: Any) -> core.EmbeddingModel:
        """A model of its own for a test that changes or closes it."""
        cls._probe()
        return cls._load(**arguments)

    @classmethod
    def shared(cls) -> core.EmbeddingModel:
        """A model for all tests of the class: not to be changed or closed."""
        cls._probe()
        assert cls._loaded is not None
        return cls._loaded

    @classmethod
    def rows(cls) -> Any:
        """The embeddings of `TEXTS` by the shared model; a copy."""
        cls._probe()
        return cls._rows.copy()

    def packages(self) -> set[str]:
        """The top packages of the backend's code."""
        plugin = registry.backend(self.backend).plugin.implementation
        modules = {getattr(plugin, "__name__", type(plugin).__module__)}
        modules.add(type(self.shared().runtime).__module__)
        return {module.partition(".")[0] for module in modules} - _SHARED_PACKAGES

    def assert_close(self, found: Any, expected: Any, message: str = "") -> None:
        """Equal but for the tolerance."""
        np.testing.assert_allclose(
            np.asarray(found), np.asarray(expected), atol=self.tolerance, rtol=0, err_msg=message
        )

    @classmethod
    def _load(cls, **arguments: Any) -> core.EmbeddingModel:
        return core.load(cls.model, **{"backend": cls.backend, **cls.load_arguments, **arguments})

    @classmethod
    def _probe(cls) -> None:
        """Load and embed once. Where that fails one test fails with the reason, and the others
        are skipped: forty times the same message would say no more."""
        if cls._broken_in is not None:
            pytest.skip(f"not run: nothing works without a model, see {cls._broken_in}")
        if cls._rows is not None:
            return
        cls._broken_in = os.environ.get("PYTEST_CURRENT_TEST", "the first failure").split(" ")[0]
        with watched(cls.variables) as traces:
            cls._loaded = cls._load()
            rows = cls._loaded.encode(list(TEXTS))
        os.environ.update(traces.added)  # the runtime may need what its import has set
        cls._left, cls._rows, cls._broken_in = traces, rows, None

    @classmethod
    def teardown_class(cls) -> None:
        """Close the shared model; another class finds the process as this one did."""
        if cls._loaded is not None:
            cls._loaded.close()
        if cls._left is not None:
            cls._left.before.restore()
        cls._loaded = cls._rows = cls._left = cls._broken_in = None

    @classmethod
    def lacking(cls, what: str) -> bool:
        """Whether the subclass declares that the backend cannot do `what`."""
        unknown = sorted(set(cls.lacks) - set(LACKS))
        assert not unknown, f"lacks names {unknown}; it may name {', '.join(LACKS)}"
        return what in cls.lacks
