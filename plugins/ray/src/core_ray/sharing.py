"""Weights that the actors of a node have once: the option `share_weights` of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import core

_OPTION = "share_weights"


def load_shared(
    load: Callable[[Mapping[str, Any]], core.Model], loading: Mapping[str, Any]
) -> core.Model:
    """A model that computes with the file mapped into memory, or as it is without that.

    Args:
        load: Loads the model, given the options.
        loading: Options of the function that loads it; what `model_kwargs` has of it goes first.

    Raises:
        core.CoreError: As `load`.
    """
    kwargs = loading.get("model_kwargs") or {}
    on_cpu = loading.get("device") in (None, "cpu")
    if on_cpu and isinstance(kwargs, Mapping) and _OPTION not in kwargs:
        try:
            return load({**loading, "model_kwargs": {**kwargs, _OPTION: True}})
        except core.OptionError:
            pass  # not an option of this backend, or not of such a file; or wrong without it, too
    return load(loading)
