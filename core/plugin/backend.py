"""One backend, validated, with the plugins around it: what a hook call runs through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from core.plugin import tracing
from core.plugin.capabilities import Capabilities
from core.plugin.chain import Chain, Implementation, read_implementations
from core.plugin.discovery import Candidate
from core.plugin.hookspecs import HOOK_NAMES
from core.plugin.plugin import Call, InvalidPlugin, Plugin


@dataclass(frozen=True, eq=False)
class Checked:
    """A plugin whose hooks fit the specifications."""

    plugin: Plugin
    implementations: tuple[Implementation, ...]

    @property
    def hooks(self) -> tuple[str, ...]:
        found = {hook for hook, _ in self.implementations}
        return tuple(hook for hook in HOOK_NAMES if hook in found)


@dataclass(frozen=True, eq=False)
class Backend:
    """A backend ready to be called, with its wrapping plugins.

    Attributes:
        wrappers: Outermost first.
    """

    checked: Checked
    capabilities: Capabilities
    around: tuple[Checked, ...]

    @property
    def plugin(self) -> Plugin:
        return self.checked.plugin

    @property
    def name(self) -> str:
        return self.plugin.name

    @cached_property
    def hooks(self) -> frozenset[str]:
        return frozenset(self.checked.hooks)

    @property
    def wrappers(self) -> tuple[Plugin, ...]:
        return tuple(checked.plugin for checked in self.around)

    @cached_property
    def chains(self) -> dict[str, Call]:
        """Each hook the backend implements, as one call."""
        chains: dict[str, Call] = {}
        for hook in self.checked.hooks:
            chain = self._chain(hook)
            chains[hook] = tracing.traced(chain, hook, self.name) if tracing.enabled() else chain
        return chains

    def _chain(self, hook: str) -> Chain:
        everybody = (self.checked, *self.around)
        return Chain(
            hook,
            [
                (checked.plugin, implementation)
                for checked in everybody
                for name, implementation in checked.implementations
                if name == hook
            ],
        )

    @cached_property
    def unwrapped(self) -> Backend:
        """The same backend without plugins."""
        return Backend(self.checked, self.capabilities, ())

    @property
    def calls(self) -> dict[str, tuple[str, ...]]:
        """For each hook, the names of those a call reaches, outermost first."""
        return {
            hook: tuple(link.plugin.name for link in self._chain(hook).links)
            for hook in self.checked.hooks
        }


def check_plugin(candidate: Candidate) -> Checked:
    """Import a plugin and check its hooks against the specifications.

    Raises:
        BackendLoadError: It cannot be imported or used; the message says where it is from.
    """
    try:
        plugin = candidate.open()
        return Checked(plugin, read_implementations(plugin))
    except InvalidPlugin as error:
        raise candidate.error(str(error)) from error
