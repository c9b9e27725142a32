"""The reference's constructor arguments, in terms of core's."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

from core.artifacts.tuned import TUNED
from core.errors import OptionError
from core.models.model import Model
from core.operations.hooks import hooks

F = TypeVar("F", bound=Callable[..., Any])


def plain(value: Any) -> str | None:
    """The string of a `torch.device`, a `torch.dtype`, an enum's member; None stays."""
    if value is None:
        return None
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).removeprefix("torch.")


def renamed(old: str, new: str, old_value: Any, new_value: Any) -> Any:
    """The value of a parameter that has two names.

    Raises:
        OptionError: Both are given, with different values.
    """
    if old_value is not None and new_value is not None and old_value != new_value:
        raise OptionError(f"{old} is the older name of {new}: pass one of them, not both.")
    return new_value if new_value is not None else old_value


def older_positions(*names: str) -> Callable[[F], F]:
    """A method that also takes keywords where older releases had them: after its first argument.

    Raises:
        OptionError: More arguments than that, or one that is given by its name as well.
    """

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def called(self: Any, *arguments: Any, **keywords: Any) -> Any:
            older = dict(zip(names, arguments[1:], strict=False))
            if len(arguments) > 1 + len(names):
                raise OptionError(
                    f"{len(arguments)} arguments without a name: the first is the model, and "
                    f"{', '.join(names)} may follow. Give the others by their names."
                )
            if twice := sorted(set(older) & set(keywords)):
                raise OptionError(f"{', '.join(twice)} is given twice: by position and by name.")
            return method(self, *arguments[:1], **older, **keywords)

        return cast(F, called)

    return decorate


def with_organization(name: str | os.PathLike[str], organization: str) -> str | os.PathLike[str]:
    """A name without an owner as one of this organization's on the Hub; a directory as it is."""
    alone = isinstance(name, str) and name != "" and not set(name) & set("/\\.~")
    return f"{organization}/{name}" if alone and not Path(name).exists() else name


#: Of transformers' loading: how the weights get into memory, and a layer nothing here runs.
_LOADING_ONLY = ("low_cpu_mem_usage", "use_safetensors", "add_pooling_layer")
#: Arguments of `core.load` that the reference also takes in `model_kwargs`, where they win.
_ALSO_ARGUMENTS = ("cache_dir", "local_files_only", "revision", "token", "trust_remote_code")
#: Ways of accelerate to spread a model: over one device, all of it.
_SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")


def read_model_kwargs(
    given: Mapping[str, Any] | None, backend: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The backend's own options, and arguments of `core.load`, of the reference's `model_kwargs`.

    Raises:
        OptionError: A `device_map` that spreads a model over several devices.
    """
    own = dict(given or {})
    for name in _LOADING_ONLY:
        own.pop(name, None)
    for name in ("dtype", "torch_dtype"):
        if name in own:
            own[name] = plain(own[name])
            # "auto" is the dtype of the file, which other backends compute in anyway. One that
            # takes both names may choose for itself where it is asked to by the newer one.
            if own[name] == "auto" and not _takes(backend, name):
                del own[name]
            elif own[name] == "auto" and _takes(backend, "torch_dtype"):
                own["torch_dtype"] = own.pop(name)
    arguments = {name: own.pop(name) for name in _ALSO_ARGUMENTS if name in own}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    place = own.pop("device_map", None)
    if place is not None:
        arguments["device"] = _one_device(place)
    return own, arguments


def _takes(backend: str, name: str) -> bool:
    tuned = isinstance(backend, str) and backend.lower() == TUNED
    return not tuned and name in hooks(backend).capabilities.model_kwargs


def _one_device(place: Any) -> str | None:
    """The device of a `device_map`; None if the backend chooses."""
    if isinstance(place, Mapping):
        devices = set(place.values())
        if len(devices) != 1:
            raise OptionError(
                f"device_map={dict(place)!r} spreads a model over several devices; core computes "
                "on one. Name it: device='cuda:0'."
            )
        place = devices.pop()
    if place in _SPREADING:
        return None
    return f"cuda:{place}" if isinstance(place, int) else plain(place)


#: Say how a tokenizer is made, which does not change what core's does.
_NO_EFFECT = ("use_fast", "padding_side", "trust_remote_code", "clean_up_tokenization_spaces")
#: Of transformers' Mistral tokenizers, whose pattern `fix_mistral_regex` replaces.
_MISTRAL = ("mistral", "ministral", "voxtral", "pixtral")


def read_tokenizer_kwargs(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The tokenizer's arguments that mean something here, checked.

    `padding_side` is accepted: no embedding depends on it.

    Raises:
        OptionError: Anything else that would change the tokens.
    """
    given = dict(given or {})
    known = {
        name: given.pop(name, None)
        for name in ("model_max_length", "truncation_side", "fix_mistral_regex")
    }
    for name in _NO_EFFECT:
        given.pop(name, None)
    if given:
        raise OptionError(
            f"processor_kwargs (tokenizer_kwargs) take model_max_length and truncation_side, not "
            f"{', '.join(map(repr, given))}. Set it in the model's tokenizer_config.json."
        )
    length = known["model_max_length"]
    if length is not None and (not isinstance(length, int) or length < 1):
        raise OptionError(f"model_max_length must be 1 or more, not {length!r}.")
    return known


def apply_tokenizer_kwargs(model: Model, known: Mapping[str, Any]) -> None:
    """Set the length, and refuse what the loaded model's tokenizer does otherwise.

    Raises:
        OptionError: Texts are cut at the other end, or a Mistral tokenizer would be changed.
    """
    side = known["truncation_side"]
    if side is not None:
        cutting = model.tokenizer.backend.truncation
        if cutting is not None and cutting["direction"] != side:
            raise OptionError(
                f"truncation_side={side!r}: this model cuts texts on the {cutting['direction']}. "
                "Set truncation_side in its tokenizer_config.json."
            )
    if known["fix_mistral_regex"] and model.source.architecture.model_type.startswith(_MISTRAL):
        raise OptionError(
            "fix_mistral_regex=True changes the pattern of a Mistral tokenizer as it is loaded; "
            "core reads tokenizer.json as it is. Save the changed tokenizer into the model."
        )
    if known["model_max_length"] is not None:
        # More than the model has positions for is accepted, as in the reference.
        model.restore({"max_seq_length": known["model_max_length"]})
