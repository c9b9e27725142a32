"""What `core.backends()` and `core.plugins()` report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.plugin.capabilities import Capabilities

Status = Literal["ok", "broken", "duplicate", "disabled"]


@dataclass(frozen=True)
class PluginStatus:
    """One wrapping plugin as `core.plugins()` reports it.

    Attributes:
        status: `"ok"`, `"broken"` (does not import or is invalid), `"duplicate"` (claimed by
            several distributions) or `"disabled"` (through `CORE_DISABLE_PLUGINS`).
        distribution: Name and version of what installed it; "" when registered in code.
        entry_point: `module:attribute` it points to; "" when registered in code.
        file: The plugin's source file.
        error: Why it is not "ok".
        hooks: Which of the six it implements.
    """

    name: str
    status: Status
    distribution: str = ""
    entry_point: str = ""
    file: str = ""
    error: str = ""
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BackendStatus(PluginStatus):
    """One backend as `core.backends()` reports it.

    Attributes:
        wrappers: Names of the wrapping plugins around it, outermost first.
        calls: For each hook, whom a call reaches, in order: plugins, then the backend.
        capabilities: What it says of itself.
    """

    wrappers: tuple[str, ...] = ()
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    capabilities: Capabilities = field(default_factory=Capabilities)


def status_table(statuses: Mapping[str, PluginStatus]) -> list[tuple[str, str, str, str]]:
    """(name, status, distribution, hooks or error) of each backend or plugin."""
    return [
        (s.name, s.status, s.distribution or "registered in code", ", ".join(s.hooks) or s.error)
        for s in statuses.values()
    ]
