"""Arrays of numbers that a caller gives, as float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import OptionError

#: What numpy makes float32 of that is no number: complex ones, texts, times.
_NO_NUMBERS = "cSUTMm"


def as_numbers(name: str, value: Any) -> NDArray[np.float32]:
    """The value as float32, of any shape.

    Raises:
        OptionError: It is no array of numbers, or has a place without one (None, a masked value);
            the message calls it `name`.
    """
    try:
        array = np.asarray(value)
        numbers = np.asarray(array, dtype=np.float32) if _holds_numbers(array) else None
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} must be an array of numbers, not {value!r:.60}.") from error
    if numbers is None:
        raise OptionError(f"{name} must be an array of numbers, not {_found(array)}.")
    if np.ma.is_masked(value):
        raise OptionError(f"{name} must be an array of numbers, and some are masked: fill them.")
    return numbers


def _holds_numbers(array: NDArray[Any]) -> bool:
    if array.dtype.kind == "O":
        return not any(item is None or isinstance(item, str | bytes) for item in array.flat)
    return array.dtype.kind not in _NO_NUMBERS


def _found(array: NDArray[Any]) -> str:
    if array.dtype.kind != "O":
        return "texts" if array.dtype.kind in "SUT" else str(array.dtype)
    return repr(next(item for item in array.flat if item is None or isinstance(item, str | bytes)))
