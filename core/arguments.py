"""Arguments of public functions, checked before any work is done."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from core.errors import OptionError

P = ParamSpec("P")
R = TypeVar("R")

#: How alike a name must be to one of a function that passes other names on.
_SURE = 0.8


def suggestion(given: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """ " Did you mean 'x'?" for the closest of the `known` words; "" where none is close."""
    close = difflib.get_close_matches(str(given), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close and close[0] != given else ""


def check_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which answers a keyword it does not know with the closest one it has.

    A function that takes `**options` hands on the names that are unlike its own.
    """
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [p.name for p in parameters if p.kind in named and p.name != "self"]
    needed = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    hands_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        unknown = [name for name in keywords if name not in known]
        if not unknown:
            return function(*arguments, **keywords)
        if not hands_on:
            hint = suggestion(unknown[0], known)
            listed = ", ".join(known)
            raise OptionError(f"{called} does not take {unknown[0]!r}.{hint} It takes: {listed}.")
        missing = needed - set(keywords)
        for name in unknown:
            if hint := suggestion(name, missing, _SURE):
                raise OptionError(f"{called} does not take {name!r}.{hint}")
        try:
            return function(*arguments, **keywords)
        except OptionError as error:
            # Only who was handed a name on knows whether it is one: `mode` is not `model`.
            for name in unknown:
                hint = suggestion(name, known, _SURE)
                if (
                    hint
                    and f"not take {name!r}." in str(error)
                    and "Did you mean" not in str(error)
                ):
                    raise OptionError(f"{error}{hint}") from error
            raise

    return checked


def check_path(name: str, value: Any) -> Path:
    """A path that an argument gives, its `~` expanded.

    Raises:
        OptionError: It is not a path; the message calls it `name`.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise OptionError(f"{name} must be a path (a string or a pathlib.Path), not {value!r}.")
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
        path.absolute()
    except RuntimeError as error:
        raise OptionError(
            f"{name}={text!r} begins with a home directory that this system does not know: HOME is "
            "not set, or there is no such user. Write the whole path."
        ) from error
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{name}={text!r} has half a character; no file has such a name."
        ) from error
    except FileNotFoundError as error:
        raise OptionError(
            f"{name}={text!r} is seen from a working directory that is gone. Enter one that is "
            "there, or give the whole path."
        ) from error
    return path


def check_unicode_path(name: str, path: Path) -> None:
    """Raise `OptionError` for a path with bytes that are no text: runtimes open none of these."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{name} {str(path)!r} leads through {os.fsencode(path.absolute())!r}, whose bytes are "
            "not UTF-8: no runtime opens files there. Rename it, or choose another place."
        ) from error


def check_unicode_name(name: str, value: str | None) -> None:
    """Raise `OptionError` for the name of a new file with bytes that are no text."""
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{name} {value!r} is not UTF-8, and no runtime opens such a file. Choose another name."
        ) from error


def check_path_or_none(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is None or a path."""
    if value is not None:
        check_path(name, value)


def check_flag(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is True or False."""
    # "false" from a configuration file is true to Python.
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, not {value!r}.")


def check_flag_or_none(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise OptionError(f"{name} must be True, False or None, not {value!r}.")


def check_text_or_none(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is None or a string that is not empty."""
    if value is not None and (not isinstance(value, str) or not value):
        raise OptionError(f"{name} must be a non-empty string or None, not {value!r}.")


def check_text_or_flag(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is a string that is not empty, True, False or None."""
    text = isinstance(value, str) and bool(value)
    if not (text or value is None or isinstance(value, bool)):
        raise OptionError(f"{name} must be a non-empty string, True, False or None, not {value!r}.")


def check_mapping_or_none(name: str, value: Any) -> None:
    """Raise `OptionError` unless it is None or a mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise OptionError(f"{name} must be a mapping or None, not {value!r}.")


def check_prompts(value: Any) -> dict[str, str]:
    """A copy of prompts by name.

    Raises:
        OptionError: Not a mapping of strings to strings.
    """
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    ):
        raise OptionError(f"prompts must map names to strings, not {value!r}.")
    return dict(value)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise `OptionError` unless it is of this kind."""
    if not isinstance(value, kind):
        raise OptionError(f"{name} must be of type core.{kind.__name__}, not {value!r}.")


def in_any_case(value: Any, known: Iterable[str]) -> Any:
    """The one of the `known` words that is `value` but for capitals; else `value` as it is."""
    if not isinstance(value, str) or value in (words := list(known)):
        return value
    alike = [word for word in words if word.lower() == value.lower()]
    return alike[0] if len(alike) == 1 else value
