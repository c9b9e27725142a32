"""The document beside a model that says how to load it: what `core tune` chose, and for where.

It is data of whoever made the directory. Its form is checked here; whether it fits this machine
and the files beside it, in `core.operations.tuned`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import ModelFormatError

#: Its name, at the top of a model's directory.
LOCK_NAME = "core_tuned.json"

#: In the place of a backend's name: load what the document says.
TUNED = "tuned"

FORMAT = 1

#: A document `core` writes has a few kilobytes; a model of a thousand shards has a hundred.
MAX_LOCK_BYTES = 1_000_000

_MOST_FILES = 8_192
_MOST_ENTRIES = 128
_LONGEST_TEXT = 1_000
_DEEPEST = 8

_DIGEST = re.compile(r"[0-9a-f]{32}")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T[0-9:.]+(Z|[+-]\d{2}:\d{2})?)?")


@dataclass(frozen=True, kw_only=True)
class TunedChoice:
    """How a model is loaded, and where that was found to be best.

    Attributes:
        backend: Its name.
        file_name: The backend's file, relative to the model's directory; None for a backend or a
            model that has none of its own.
        device: As the backend names it.
        options: The backend's `model_kwargs`: one of its `LOAD_CONFIGS`, or empty.
        objective: What was asked for: "throughput", "latency", "memory".
        measured: Figures by name, for people.
        tuned_at: The date, or date and time, in ISO 8601.
        machine: The processor's family where it was measured.
        flags: The processor's vector and matrix instructions there, sorted.
        versions: Of `core`, the backend and what that requires, by distribution.
        files: Digest of every file that decides what the model computes.
    """

    backend: str
    file_name: str | None
    device: str
    options: Mapping[str, Any]
    objective: str
    measured: Mapping[str, Any]
    tuned_at: str
    machine: str
    flags: tuple[str, ...]
    versions: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of `files`: the same for a copy, another for other content."""
        text = json.dumps(dict(sorted(self.files.items())), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "format": FORMAT,
            "backend": self.backend,
            "file_name": self.file_name,
            "device": self.device,
            "options": dict(self.options),
            "objective": self.objective,
            "measured": dict(self.measured),
            "tuned_at": self.tuned_at,
            "processor": {"machine": self.machine, "flags": list(self.flags)},
            "versions": dict(self.versions),
            "fingerprint": self.fingerprint,
            "files": dict(sorted(self.files.items())),
        }


def parse_choice(content: Mapping[str, Any], what: str) -> TunedChoice:
    """The document's content, checked as a whole.

    Args:
        what: How messages call the document.

    Raises:
        ModelFormatError: It is not what `TunedChoice.as_dict` makes: another format, a key too
            many or too few, a value of another type, sizes nobody needs.
    """
    try:
        return _parse(content)
    except _Wrong as error:
        raise ModelFormatError(f"{what} {error}.") from error


class _Wrong(ValueError):  # noqa: N818 - a reason on its way to a message
    """What is wrong with the document, in words."""


_KEYS = frozenset(
    {
        "format", "backend", "file_name", "device", "options", "objective", "measured",
        "tuned_at", "processor", "versions", "fingerprint", "files",
    }
)  # fmt: skip


def _parse(content: Mapping[str, Any]) -> TunedChoice:
    found = content.get("format")
    if type(found) is not int or found != FORMAT:
        raise _Wrong(f"has format {_shown(found)}, and this version of core reads {FORMAT}")
    _check_keys(content, _KEYS, "")
    _check_depth(content)
    processor = _mapping(content, "processor")
    _check_keys(processor, frozenset({"machine", "flags"}), "processor: ")
    flags = processor["flags"]
    if not isinstance(flags, list) or len(flags) > _MOST_ENTRIES:
        raise _Wrong(f"has processor flags {_shown(flags)}, not a short list")
    file_name = content["file_name"]
    files = _texts(content, "files", _DIGEST, most=_MOST_FILES)
    choice = TunedChoice(
        backend=_text(content, "backend"),
        file_name=None if file_name is None else _text(content, "file_name"),
        device=_text(content, "device"),
        options=dict(_mapping(content, "options")),
        objective=_text(content, "objective"),
        measured=_figures(_mapping(content, "measured")),
        tuned_at=_text(content, "tuned_at", _DATE),
        machine=_text(processor, "machine"),
        flags=tuple(_checked(flag, "a processor flag") for flag in flags),
        versions=_texts(content, "versions", None, most=_MOST_ENTRIES),
        files=files,
    )
    for name in choice.versions:
        if not _DISTRIBUTION.fullmatch(name):
            raise _Wrong(f"has a version of {_shown(name)}, which is no distribution's name")
    if content["fingerprint"] != choice.fingerprint:
        raise _Wrong(
            f"has the fingerprint {_shown(content['fingerprint'])}, which is not that of the files "
            "it lists"
        )
    return choice


def check_figures(measured: Mapping[str, Any]) -> None:
    """Raise `ValueError` for figures that the document does not hold."""
    _figures(measured)


def _figures(measured: Mapping[str, Any]) -> dict[str, Any]:
    if len(measured) > _MOST_ENTRIES:
        raise _Wrong(f"has {len(measured)} figures")
    for name, value in measured.items():
        _checked(name, "the name of a figure")
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > _MOST_ENTRIES or not all(map(_is_plain, values)):
            raise _Wrong(f"has the figure {name} = {_shown(value)}, not a number or a text")
    return dict(measured)


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int)


def _check_keys(content: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown, missing = sorted(set(content) - known), sorted(known - set(content))
    if unknown:
        raise _Wrong(f"has {where}{_shown(unknown[0])}, which its format does not know")
    if missing:
        raise _Wrong(f"lacks {where}{', '.join(missing)}")


def _check_depth(content: Any) -> None:
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise _Wrong("is nested too deeply")
        inner = value.values() if isinstance(value, Mapping) else value
        if isinstance(value, Mapping | list):
            waiting += [(item, depth + 1) for item in inner]


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content[key]
    if not isinstance(value, Mapping):
        raise _Wrong(f"has {key} {_shown(value)}, not an object")
    return value


def _text(content: Mapping[str, Any], key: str, pattern: re.Pattern[str] | None = None) -> str:
    return _checked(content[key], key, pattern)


def _checked(value: Any, what: str, pattern: re.Pattern[str] | None = None) -> str:
    usable = isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable()
    if not usable or (pattern is not None and not pattern.fullmatch(value)):
        raise _Wrong(f"has {_shown(value)} for {what}")
    text: str = value
    return text


def _texts(
    content: Mapping[str, Any], key: str, pattern: re.Pattern[str] | None, *, most: int
) -> dict[str, str]:
    values = _mapping(content, key)
    if len(values) > most:
        raise _Wrong(f"has {len(values):,} {key}")
    return {
        _checked(name, f"a name of {key}"): _checked(value, f"{key} of {_shown(name)}", pattern)
        for name, value in values.items()
    }


def _shown(value: Any) -> str:
    """A value in a message, however long it is."""
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."
