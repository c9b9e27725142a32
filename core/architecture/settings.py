"""Settings of configuration files whose kind is checked: a wrong one would change results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import ModelFormatError

#: Of a larger size there is nothing: it says that there is no limit.
_LARGEST = 2**31 - 1


def positive_number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these settings that is a positive integer."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def stated_size(config: Mapping[str, Any], where: str, *names: str) -> int | None:
    """The first of these settings that is present, at most 2,147,483,647; None if there is none.

    Args:
        where: Model and file, for the message.

    Raises:
        ModelFormatError: It is not a whole number of 1 or more.
    """
    name = next((name for name in names if config.get(name) is not None), None)
    if name is None:
        return None
    value = config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelFormatError(f"{where}: {name} is {value!r}; it must be a whole number from 1.")
    return min(value, _LARGEST)


def flag(config: Mapping[str, Any], where: str, name: str, default: bool) -> bool:
    """A setting that is on or off; null is off, as it is in Python.

    Raises:
        ModelFormatError: It is anything else: the text "false" would be on.
    """
    value = config.get(name, default)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ModelFormatError(f"{where}: {name} is {value!r}; it must be true or false.")


def text(config: Mapping[str, Any], where: str, name: str, default: str) -> str:
    """A setting that is a text; null is the default.

    Raises:
        ModelFormatError: It is anything else.
    """
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ModelFormatError(f"{where}: {name} is {value!r}; it must be a text.")
    return value
