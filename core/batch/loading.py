"""The model of a job: opened by the function that loads its kind, and fit for what the job asks."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.api import kind_of, load, load_multi_vector, load_reranker, load_sparse
from core.architecture.kinds import EMBEDDING, KINDS, MULTI_VECTOR, RERANKER, SPARSE
from core.errors import OptionError
from core.hub.download import listing_once
from core.models.model import Model

#: Kind of model to the function that loads it.
LOADERS: Mapping[str, Callable[..., Model]] = {
    EMBEDDING: load,
    RERANKER: load_reranker,
    SPARSE: load_sparse,
    MULTI_VECTOR: load_multi_vector,
}


def loader_options() -> tuple[str, ...]:
    """The options that any of the functions takes."""
    return tuple(dict.fromkeys(name for load in LOADERS.values() for name in _keywords(load)))


@listing_once()
def open_model(
    model: str | os.PathLike[str], kind: str | None, loading: Mapping[str, Any]
) -> Model:
    """A model, by the function that loads its kind.

    Args:
        model: What `core.load` takes.
        kind: None for the one that its files tell.
        loading: Options of that function.

    Raises:
        CoreError: As that function, which does not take options of the others.
    """
    if kind is None:
        known = _keywords(kind_of)
        kind = kind_of(model, **{name: value for name, value in loading.items() if name in known})
    return LOADERS[kind](model, **loading)


def check_columns(model: Model, columns: Sequence[str]) -> None:
    """Raise `OptionError` for one column where a reranker reads two, or the reverse."""
    wanted = 2 if model.kind == RERANKER else 1
    if len(columns) == wanted:
        return
    takes = (
        'reads pairs, which are in two columns: text_column=("query", "document")'
        if wanted == 2
        else f"reads one column, and text_column names {len(columns)}"
    )
    raise OptionError(f"{model.source} is {KINDS[model.kind].noun}, which {takes}.")


def _keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters
    return tuple(n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY)
