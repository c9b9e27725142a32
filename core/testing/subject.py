"""The backend under test and its model, shared by all parts of the contract."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import core

LACKS = ("save", "token_embeddings", "reference", "entry_point")

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
    lacks: ClassVar[Collection[str]] = ()

    _loaded: ClassVar[core.EmbeddingModel | None] = None

    @classmethod
    def load(cls, **arguments: Any) -> core.EmbeddingModel:
        """A model of its own for a test that changes or closes it."""
        return core.load(cls.model, **{"backend": cls.backend, **cls.load_arguments, **arguments})

    @classmethod
    def shared(cls) -> core.EmbeddingModel:
        """A model for all tests of the class: not to be changed or closed."""
        if cls._loaded is None:
            cls._loaded = cls.load()
        return cls._loaded

    @classmethod
    def teardown_class(cls) -> None:
        """Close the shared model."""
        if cls._loaded is not None:
            cls._loaded.close()
            cls._loaded = None

    @classmethod
    def lacking(cls, what: str) -> bool:
        """Whether the subclass declares that the backend cannot do `what`."""
        unknown = sorted(set(cls.lacks) - set(LACKS))
        assert not unknown, f"lacks names {unknown}; it may name {', '.join(LACKS)}"
        return what in cls.lacks
