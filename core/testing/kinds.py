"""What the conformance suites of the other kinds of model share."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

import core
from core.architecture.kinds import KINDS

M = TypeVar("M", bound=core.Model)

LACKS = ("save", "reference", "entry_point", "long_texts")


class KindConformance(Generic[M]):
    """A model of a kind, loaded for the tests of a subclass.

    Attributes:
        kind: Of `KINDS`.
        backend: The backend's name.
        model: What to load.
        load_arguments: Further arguments of the function that loads it.
        tolerance: The most by which a value may differ between an input alone and in any batch, and
            from the reference.
        lacks: What the backend cannot do, of `LACKS`.
    """

    kind: ClassVar[str]
    backend: ClassVar[str]
    model: ClassVar[str | os.PathLike[str]]
    load_arguments: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-4
    lacks: ClassVar[Collection[str]] = ()

    _loaded: ClassVar[Any] = None

    @classmethod
    def load(cls, **arguments: Any) -> M:
        """A model of its own for a test that changes or closes it."""
        given = {"backend": cls.backend, **cls.load_arguments, **arguments}
        function = getattr(core, KINDS[cls.kind].loader.removeprefix("core."))
        return cast("M", function(cls.model, **given))

    @classmethod
    def shared(cls) -> M:
        """A model for all tests of the class: not to be changed or closed."""
        if cls._loaded is None:
            cls._loaded = cls.load()
        return cast("M", cls._loaded)

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

    def test_it_states_the_kind(self) -> None:
        """`KINDS` names the kind, so that other backends' users are sent here."""
        assert self.kind in core.hooks(self.backend).capabilities.kinds
