"""The plugins of a process: which there are, and each opened once, by name.

Only the named backend is ever imported. Each gets chains of its own, holding it and every wrapping
plugin, so that a call can reach no other backend.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from core.arguments import in_any_case
from core.errors import BackendLoadError, BackendNotFound, CoreError, OptionError
from core.options import suggestion
from core.plugin.backend import Backend, Checked, check_plugin
from core.plugin.capabilities import read_capabilities
from core.plugin.discovery import DISABLE_VARIABLE, GROUPS, Candidate, is_disabled, scan
from core.plugin.known_backends import INSTALL_COMMANDS, install_hint
from core.plugin.plugin import (
    BACKEND_GROUP,
    COMMAND_GROUP,
    KINDS,
    PLUGIN_GROUP,
    InvalidPlugin,
    raised,
)
from core.plugin.status import BackendStatus, PluginStatus, Status

logger = logging.getLogger("core")

BACKEND_VARIABLE = "CORE_BACKEND"


class Registry:
    """All plugins of this process. Thread-safe.

    Plugins are imported outside the registry's own lock: one that hangs on import holds up those
    who name it, and nobody else.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._opening: dict[str, threading.RLock] = {}
        #: Per group and name: the object as given, and itself or its instance if it is a class.
        self._registered: dict[str, dict[str, tuple[Any, Any]]] = {group: {} for group in GROUPS}
        self._scanned: tuple[tuple[str, ...], tuple[Candidate, ...]] | None = None
        self._backends: dict[str, Backend] = {}
        self._plugins: dict[str, Checked | BackendLoadError] = {}
        self._generation = 0

    # In code

    def register(self, group: str, name: str, given: Any, *, replace: bool = False) -> None:
        """Offer an object as if an entry point named it.

        Raises:
            OptionError: The name is not usable or taken by another object.
            BackendLoadError: The object is not a valid plugin.
        """
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise OptionError(f"A plugin's name must read like an identifier, not {name!r}.")
        candidate = Candidate(group, name, implementation=given)
        with self._lock:
            earlier = self._registered[group].get(name)
            if earlier is not None and earlier[0] is not given and not replace:
                raise OptionError(
                    f"Another object is registered as {name!r} already. Choose another name, or "
                    "pass replace=True."
                )
            installed = [c.distribution for c in self._installed() if self._is(c, group, name)]
            if installed:
                raise OptionError(
                    f"{name!r} is already installed by distribution {installed[0]}; "
                    "choose another name."
                )
        instance = check_plugin(candidate).plugin.implementation
        with self._lock:
            self._registered[group][name] = (given, instance)
            self._forget()

    def unregister(self, group: str, name: str) -> None:
        """Undo `register`; unknown names are ignored."""
        with self._lock:
            self._registered[group].pop(name, None)
            self._forget()

    def refresh(self) -> None:
        """Look again at what is installed, as after a `pip install` in a running process."""
        with self._lock:
            self._scanned = None
            self._forget()

    def _forget(self) -> None:
        """Every backend is put together again; models that are loaded keep theirs."""
        self._generation += 1
        self._backends.clear()
        self._plugins.clear()

    # By name

    def backend(self, name: str) -> Backend:
        """The named backend, imported and validated on first use.

        Raises:
            BackendNotFound: Nothing installed has this name.
            BackendLoadError: It is installed and unusable, disabled, or claimed twice.
        """
        if not isinstance(name, str):
            raise OptionError(f"A backend is named by a string, not {name!r}.")
        found = self._backends.get(name)
        if found is None:
            name = in_any_case(name, self._by_name(BACKEND_GROUP))
        while found is None:
            with self._opening_lock(BACKEND_GROUP, name):
                found = self._backends.get(name)
                if found is not None:
                    break
                generation = self._generation
                loaded = self._load(name)
                with self._lock:
                    # Otherwise something was registered meanwhile, and is missing around it.
                    if generation == self._generation:
                        found = self._backends[name] = loaded
        return found

    def names(self) -> tuple[str, ...]:
        """Every installed or registered backend, disabled ones left out, none imported."""
        return tuple(name for name in self._by_name(BACKEND_GROUP) if not is_disabled(name))

    def working(self) -> Iterator[tuple[str, Backend]]:
        """Every backend that can be used, imported; `statuses` tells what is wrong with others."""
        for name in self.names():
            try:
                found = self.backend(name)
            except CoreError:
                continue
            yield name, found

    def commands(self) -> dict[str, str]:
        """Every command that a distribution adds, to that distribution; none is imported."""
        return {
            name: _origin(found)[0]
            for name, found in self._by_name(COMMAND_GROUP).items()
            if not is_disabled(name)
        }

    def command(self, name: str) -> Any:
        """What the entry point of an added command names, to be called with its parser.

        Raises:
            BackendLoadError: It cannot be imported, is not callable, is claimed twice, or fails
                when it is called.
        """
        found = self._by_name(COMMAND_GROUP)[name]
        if len(found) > 1:
            raise _claimed_twice(found)
        try:
            implementation = found[0].open().implementation
        except InvalidPlugin as error:
            raise found[0].error(str(error)) from error
        if not callable(implementation):
            raise found[0].error(
                "it must be a function that takes an argparse.ArgumentParser, not "
                f"{type(implementation).__name__}"
            )

        def prepare(parser: Any) -> Any:
            try:
                return implementation(parser)
            except CoreError:
                raise
            except Exception as error:
                why = f"adding its arguments raised {raised(error)}"
                raise found[0].error(why) from error

        return prepare

    def statuses(self) -> dict[str, BackendStatus]:
        """Load every backend and report on each."""
        self._rescan()
        return {
            name: self._backend_status(name, found)
            for name, found in self._by_name(BACKEND_GROUP).items()
        }

    def plugin_statuses(self) -> dict[str, PluginStatus]:
        """Load every wrapping plugin and report on each."""
        self._rescan()
        return {
            name: self._plugin_status(name, found)
            for name, found in self._by_name(PLUGIN_GROUP).items()
        }

    def _backend_status(self, name: str, found: list[Candidate]) -> BackendStatus:
        distributions, values = _origin(found)
        if is_disabled(name):
            return BackendStatus(name, "disabled", distributions, values, error=_switched_off())
        try:
            backend = self.backend(name)
        except BackendLoadError as error:
            return BackendStatus(name, _failure(found), distributions, values, error=str(error))
        return BackendStatus(
            name,
            "ok",
            distributions,
            values,
            file=backend.plugin.file,
            hooks=backend.checked.hooks,
            wrappers=tuple(plugin.name for plugin in backend.wrappers),
            calls=backend.calls,
            capabilities=backend.capabilities,
        )

    def _plugin_status(self, name: str, found: list[Candidate]) -> PluginStatus:
        distributions, values = _origin(found)
        if is_disabled(name):
            return PluginStatus(name, "disabled", distributions, values, error=_switched_off())
        checked = self._plugin(name, found)
        if isinstance(checked, BackendLoadError):
            return PluginStatus(name, _failure(found), distributions, values, error=str(checked))
        file = checked.plugin.file
        return PluginStatus(name, "ok", distributions, values, file=file, hooks=checked.hooks)

    # Loading

    def _load(self, name: str) -> Backend:
        if is_disabled(name):
            raise BackendLoadError(
                f"Backend {name!r} is switched off by {DISABLE_VARIABLE}="
                f"{os.environ[DISABLE_VARIABLE]!r}. Remove it from that variable to use it."
            )
        found = self._by_name(BACKEND_GROUP).get(name)
        if found is None:
            self._rescan()  # it may have been installed since
            found = self._by_name(BACKEND_GROUP).get(name)
        if found is None:
            raise BackendNotFound(self._not_found(name) + told_by_variable(name))
        if len(found) > 1:
            raise _claimed_twice(found)
        checked = check_plugin(found[0])
        try:
            capabilities = read_capabilities(checked.plugin.implementation)
        except Exception as error:
            raise found[0].error(str(error)) from error
        backend = Backend(checked, capabilities, self._around())
        _ = backend.chains  # put together before any thread calls it
        return backend

    def _around(self) -> tuple[Checked, ...]:
        """Every usable wrapping plugin, by name."""
        opened = [
            self._plugin(name, found)
            for name, found in self._by_name(PLUGIN_GROUP).items()
            if not is_disabled(name)
        ]
        return tuple(checked for checked in opened if isinstance(checked, Checked))

    def _plugin(self, name: str, found: list[Candidate]) -> Checked | BackendLoadError:
        """A wrapping plugin, opened once for all backends; a broken one warns once."""
        with self._opening_lock(PLUGIN_GROUP, name):
            known = self._plugins.get(name)
            if known is not None:
                return known
            generation = self._generation
            opened: Checked | BackendLoadError
            try:
                opened = check_plugin(found[0]) if len(found) == 1 else _claimed_twice(found)
            except BackendLoadError as error:
                opened = error
            if isinstance(opened, BackendLoadError):
                logger.warning("%s It is left out.", opened)
            with self._lock:
                if generation == self._generation:
                    self._plugins[name] = opened
            return opened

    def _opening_lock(self, group: str, name: str) -> threading.RLock:
        with self._lock:
            return self._opening.setdefault(f"{group}:{name}", threading.RLock())

    # What there is

    def _by_name(self, group: str) -> dict[str, list[Candidate]]:
        """The candidates of a group, sorted by name; several to a name when it is claimed twice."""
        with self._lock:
            registered = [
                Candidate(group, name, implementation=instance)
                for name, (_, instance) in self._registered[group].items()
            ]
            installed = [c for c in self._installed() if c.group == group]
        grouped: dict[str, list[Candidate]] = {}
        for candidate in sorted([*installed, *registered], key=lambda c: c.name):
            grouped.setdefault(candidate.name, []).append(candidate)
        return grouped

    def _installed(self) -> tuple[Candidate, ...]:
        path = tuple(sys.path)
        with self._lock:
            if self._scanned is None or self._scanned[0] != path:
                self._scanned = (path, scan())
            return self._scanned[1]

    def _rescan(self) -> None:
        with self._lock:
            self._scanned = None

    @staticmethod
    def _is(candidate: Candidate, group: str, name: str) -> bool:
        return candidate.group == group and candidate.name == name

    def _not_found(self, name: str) -> str:
        names = self.names()
        command = INSTALL_COMMANDS.get(name.lower())
        if command:
            return f"Backend {name.lower()!r} is not installed. Install it: `{command}`."
        if not names:
            return f"Backend {name!r} is not installed, nor is any other. {install_hint()}"
        hint = suggestion(name.lower(), [*names, *INSTALL_COMMANDS])
        return f"There is no backend {name!r}.{hint} Installed: {', '.join(names)}."


def told_by_variable(name: str) -> str:
    """What a message adds where the environment names the backend, not who reads it."""
    stated = os.environ.get(BACKEND_VARIABLE, "")
    return f" ${BACKEND_VARIABLE} names it." if stated.lower() == name.lower() else ""


def _claimed_twice(found: list[Candidate]) -> BackendLoadError:
    kind = KINDS[found[0].group].capitalize()
    claimants = " and ".join(f"{c.distribution or 'code'} ({c.value})" for c in found)
    return BackendLoadError(
        f"{kind} {found[0].name!r} is claimed by {len(found)} distributions: {claimants}. "
        "Uninstall all but one of them."
    )


def _origin(found: list[Candidate]) -> tuple[str, str]:
    """Distributions and entry points, usually one of each."""
    return (
        ", ".join(c.distribution for c in found if c.distribution),
        ", ".join(c.value for c in found if c.value),
    )


def _failure(found: list[Candidate]) -> Status:
    return "duplicate" if len(found) > 1 else "broken"


def _switched_off() -> str:
    return f"Switched off by {DISABLE_VARIABLE}."


#: The plugins of this process.
registry = Registry()
