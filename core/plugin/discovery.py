"""Where plugins come from: entry points of installed distributions, and objects given in code.

Nothing here imports a plugin but `Candidate.open`.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from core.errors import BackendLoadError
from core.machine.interrupts import raise_interrupt
from core.machine.process_wide import process_wide
from core.plugin.plugin import (
    BACKEND_GROUP,
    COMMAND_GROUP,
    KINDS,
    PLUGIN_GROUP,
    InvalidPlugin,
    Plugin,
    raised,
)

logger = logging.getLogger("core")

GROUPS = (BACKEND_GROUP, PLUGIN_GROUP, COMMAND_GROUP)

DISABLE_VARIABLE = "CORE_DISABLE_PLUGINS"


_stdout_is_taken = False


@contextmanager
def stdout_is_taken() -> Iterator[None]:
    """Inside, standard output is a command's: what plugins print when they are imported goes to
    standard error."""
    global _stdout_is_taken
    before, _stdout_is_taken = _stdout_is_taken, True
    try:
        yield
    finally:
        _stdout_is_taken = before


@process_wide
@contextmanager
def _prints_aside() -> Iterator[None]:
    with redirect_stdout(sys.stderr):
        yield


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plugin by name, not imported yet.

    Attributes:
        distribution: Name and version of what installed it; "" for an object given in code.
        value: `module:attribute` of its entry point; "" for an object given in code.
        implementation: The object given in code.
    """

    group: str
    name: str
    distribution: str = ""
    value: str = ""
    entry_point: importlib.metadata.EntryPoint | None = None
    implementation: Any = None

    def open(self) -> Plugin:
        """Import it; a class is instantiated.

        Raises:
            InvalidPlugin: That raised, or asked to end the process.
        """
        value, doing = self.implementation, "importing it"
        try:
            with _prints_aside() if _stdout_is_taken else nullcontext():
                if self.entry_point is not None:
                    value = self.entry_point.load()
                if inspect.isclass(value):
                    doing = f"calling {value.__name__}()"
                    value = value()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin must not end the process
            raise_interrupt(error)
            raise InvalidPlugin(f"{doing} raised {raised(error)}") from error
        if value is None:
            raise InvalidPlugin("it is None, not an object with hooks")
        return Plugin(self.name, self.group, value, self.distribution, self.value)

    def error(self, why: str) -> BackendLoadError:
        """The error that says why it cannot be used and how to go on without it."""
        kind = KINDS[self.group].capitalize()
        if self.entry_point is None:
            return BackendLoadError(f"{kind} {self.name!r} cannot be used: {why}.")
        return BackendLoadError(
            f"{kind} {self.name!r} (entry point {self.value!r} of distribution "
            f"{self.distribution}) cannot be used: {why}. Update or uninstall that distribution, "
            f"or set {DISABLE_VARIABLE}={self.name}."
        )


def is_disabled(name: str) -> bool:
    """Whether `CORE_DISABLE_PLUGINS` names it, in any case, as backends may be named."""
    value = os.environ.get(DISABLE_VARIABLE, "")
    return name.lower() in {stated.strip().lower() for stated in value.split(",")} - {""}


def scan() -> tuple[Candidate, ...]:
    """Every entry point of the three groups, in a fixed order.

    Not `importlib.metadata.entry_points`: there one distribution with an unreadable file hides
    all others.
    """
    found: dict[str, list[Candidate]] = {}
    for distribution in importlib.metadata.distributions():
        try:
            # Parsing every distribution's metadata would cost ten times this one file.
            text = distribution.read_text("entry_points.txt") or ""
            if not any(group in text for group in GROUPS):
                continue
            name = distribution.metadata["Name"] or "(without a name)"
            key = re.sub(r"[-_.]+", "-", name).lower()
            if key in found:
                continue  # the first on the path is the one that imports
            found[key] = _entries(distribution, f"{name} {distribution.version}")
        except Exception as error:
            place = getattr(distribution, "_path", distribution)
            logger.warning(
                "The entry points in %s cannot be read (%s: %s); its plugins are left out. "
                "Reinstall that distribution.",
                place,
                type(error).__name__,
                error,
            )
    everything = [candidate for group in found.values() for candidate in group]
    return tuple(sorted(everything, key=lambda c: (c.group, c.name, c.distribution, c.value)))


def _entries(distribution: importlib.metadata.Distribution, label: str) -> list[Candidate]:
    entries = {
        (entry.group, entry.name, entry.value): entry
        for entry in distribution.entry_points
        if entry.group in GROUPS
    }
    return [
        Candidate(entry.group, entry.name, label, entry.value, entry) for entry in entries.values()
    ]
