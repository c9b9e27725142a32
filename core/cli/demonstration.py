"""What `core demo` needs to know of a kind of model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Demonstration:
    """How a kind of model is shown. What runs on a model gets it loaded.

    Attributes:
        name: The model shown unless another is named.
        inputs: What it takes, in the plural.
        drift_title: Head of the column of `drift`.
        drift_note: A sentence on it.
        find: Where that model lies, where it may lie elsewhere than on the Hub.
        show: Prints what it makes of a few inputs.
        compare: How far the second model is from the first, for that column.
        drift: The same of an artifact's verification.
        run: Runs as many inputs as it returns; the number keeps turns apart.
        use: Prints what such models are for, by the fastest.
        command: What to type next, after "core": `{model}` is the model with its options.
    """

    name: str
    inputs: str
    drift_title: str
    drift_note: str
    find: Callable[[], str]
    show: Callable[[Any], None]
    compare: Callable[[Any, Any], str]
    drift: Callable[[Any], str]
    run: Callable[[Any, int], int]
    use: Callable[[Any], None]
    command: str
