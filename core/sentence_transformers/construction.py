"""What the constructors of the drop-in share: from the reference's arguments to a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from core.arguments import check_mapping_or_none
from core.errors import OptionError
from core.models.model import Model
from core.sentence_transformers.arguments import (
    apply_tokenizer_kwargs,
    plain,
    read_model_kwargs,
    read_tokenizer_kwargs,
)

M = TypeVar("M", bound=Model)

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"


def load_as_asked(
    load: Callable[..., M],
    name: str | os.PathLike[str] | None,
    *,
    modules: Any,
    device: Any,
    prompts: Mapping[str, str] | None,
    cache_folder: str | os.PathLike[str] | None,
    local_files_only: bool,
    model_kwargs: Mapping[str, Any] | None,
    processor_kwargs: Mapping[str, Any] | None,
    config_kwargs: Mapping[str, Any] | None,
    backend: str,
    **arguments: Any,
) -> M:
    """The model that a constructor of the reference would make.

    Args:
        load: `core.load`, or the function of another kind.
        arguments: Of `load`, as they are.

    Raises:
        OptionError: Modules instead of a name, an argument of the wrong type, or a tokenizer that
            would give other tokens than core's.
    """
    if modules is not None or name is None:
        raise OptionError(
            "A model is loaded from files: pass its directory or its name on the Hub. To put one "
            "together from modules, do so with sentence_transformers, save it, and load it."
        )
    for argument, given in (
        ("prompts", prompts),
        ("model_kwargs", model_kwargs),
        ("processor_kwargs", processor_kwargs),
        ("config_kwargs", config_kwargs),
    ):
        check_mapping_or_none(argument, given)
    own, also = read_model_kwargs(model_kwargs, backend)
    tokenizer_options = read_tokenizer_kwargs(processor_kwargs)
    # A prompt that is None is the model's own, or empty if it has none.
    named = {name: text for name, text in (prompts or {}).items() if text is not None}
    model = load(
        name,
        backend=backend,
        prompts=named or None,
        model_kwargs=own,
        config_kwargs=config_kwargs,
        **{
            **arguments,
            "device": plain(device),
            "cache_dir": cache_folder or os.environ.get(_CACHE_VARIABLE),
            "local_files_only": bool(local_files_only),
            **also,
        },
    )
    with closed_on_error(model):
        apply_tokenizer_kwargs(model, tokenizer_options)
    return model


@contextmanager
def closed_on_error(model: Model) -> Iterator[None]:
    """Close a model whose settings turn out to be wrong."""
    try:
        yield
    except OptionError:
        model.close()
        raise


def complete_prompts(model: Model, names: Iterable[str], default: str | None) -> None:
    """Add empty prompts of these names where there are none, and choose the default.

    Raises:
        OptionError: There is no prompt of the default's name; the model is closed.
    """
    for name in names:
        model.prompts.setdefault(name, "")
    if default is None:
        return
    with closed_on_error(model):
        if default not in model.prompts:
            listed = ", ".join(map(repr, model.prompts))
            raise OptionError(
                f"default_prompt_name={default!r} is not one of the model's prompts: {listed}. "
                "Add it with prompts={...}."
            )
        model.default_prompt_name = default
