"""A plugin and what a call of it leaves behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

BACKEND_GROUP = "core.backends"
PLUGIN_GROUP = "core.plugins"
COMMAND_GROUP = "core.commands"

#: What a member of each entry-point group is called.
KINDS = {BACKEND_GROUP: "backend", PLUGIN_GROUP: "plugin", COMMAND_GROUP: "command"}


class InvalidPlugin(Exception):  # noqa: N818 - a reason on its way to a message
    """Why a plugin cannot be used."""


def raised(error: BaseException) -> str:
    """What an exception is and says; some say nothing."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plugin object and where it is from."""

    name: str
    group: str
    implementation: Any
    distribution: str
    entry_point: str

    def __str__(self) -> str:
        origin = f" of distribution {self.distribution}" if self.distribution else ""
        return f"{KINDS[self.group]} {self.name!r}{origin}"

    @property
    def file(self) -> str:
        """Its source file; "" if there is none."""
        value = self.implementation
        try:
            return inspect.getfile(value if inspect.ismodule(value) else type(value))
        except (TypeError, OSError):
            return ""


#: What implementations returned or raised, innermost first: the first bad entry is the culprit's.
Trail = list[tuple[Plugin, Any]]

#: `call(arguments, trail)` of one hook.
Call = Callable[[Mapping[str, Any], Trail], Any]
