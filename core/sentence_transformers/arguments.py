"""The reference's argument and return types, in terms of core's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from core.errors import OptionError, UnsupportedOperation


class NotProvided(UnsupportedOperation, AttributeError):  # noqa: N818
    """An attribute of the reference that has no counterpart here; the message says what has."""


class NotImportable(UnsupportedOperation, ImportError):  # noqa: N818
    """A name of the reference that is not here; the message says where it is."""


class SimilarityFunction(Enum):
    """Names of the similarity functions."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # noqa: PIE796 - the reference has both names
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def possible_values() -> list[str]:
        """Every name once."""
        return [member.value for member in SimilarityFunction]


class Device(str):
    """A device's name with the two attributes code reads of a `torch.device`."""

    __slots__ = ()

    @property
    def type(self) -> str:
        """Without the number: "cuda" of "cuda:1"."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The number, or None."""
        number = self.partition(":")[2]
        return int(number) if number else None


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


def one_input(new: str, inputs: Any, old: str, given: dict[str, Any]) -> Any:
    """The texts, which older releases call otherwise."""
    older = given.pop(old, None)
    if inputs is None and older is None:
        raise OptionError(f"encode needs texts: encode({new}).")
    return older if inputs is None else inputs


#: Say how a tokenizer is made, which does not change what core's does.
_NO_EFFECT = ("use_fast", "padding_side", "trust_remote_code", "clean_up_tokenization_spaces")


def read_tokenizer_kwargs(given: Mapping[str, Any] | None) -> int | None:
    """`model_max_length` of the tokenizer's arguments.

    `padding_side` is accepted: rows are padded where the model's own settings say, and pooling
    knows that side.

    Raises:
        OptionError: Anything else that would change the tokens.
    """
    given = dict(given or {})
    length = given.pop("model_max_length", None)
    for name in _NO_EFFECT:
        given.pop(name, None)
    if given:
        raise OptionError(
            f"processor_kwargs (tokenizer_kwargs) take model_max_length, not "
            f"{', '.join(map(repr, given))}. Set it in the model's tokenizer_config.json."
        )
    if length is not None and (not isinstance(length, int) or length < 1):
        raise OptionError(f"model_max_length must be 1 or more, not {length!r}.")
    return length


def as_tensor(value: Any, device: Any = None) -> Any:
    """The `torch.Tensor` of an array; the array itself where torch is not installed.

    The reference returns tensors in places where its callers never asked for one. An environment
    without torch has no code that needs them.
    """
    try:
        import torch
    except ImportError:
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    return tensor if device is None else tensor.to(device)


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """The array of a tensor, an array, or a list of either."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    elif isinstance(value, list | tuple) and value and hasattr(value[0], "detach"):
        value = [row.detach().cpu().float().numpy() for row in value]
    return np.asarray(value)
