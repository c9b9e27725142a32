"""Finding, validating and routing to backends and wrapping plugins.

Only the named backend is ever imported. Each gets a plugin manager of its own, holding it and
every wrapper, so that a call can reach no other backend.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

from core import hookspecs
from core.errors import BackendLoadError, BackendNotFound, OptionError
from core.hookspecs import HOOK_NAMES, OLDEST_SPEC_VERSION, PROJECT, REQUIRED_HOOKS, SPEC_VERSION

logger = logging.getLogger("core")

BACKEND_GROUP = "core.backends"
PLUGIN_GROUP = "core.plugins"
DISABLE_VARIABLE = "CORE_DISABLE_PLUGINS"
BACKEND_VARIABLE = "CORE_BACKEND"

#: Which command installs what this repository ships; third parties are found, not listed.
INSTALL_COMMANDS = {
    "torch": "pip install core[torch]",
    "onnx": "pip install core[onnx]",
    "openvino": "pip install core[openvino]",
}


@dataclass(frozen=True)
class Capabilities:
    """What a backend says of itself in plain attributes, readable without its runtime.

    Each attribute is read from the plugin under its upper-case name (`DEVICES`, ...).

    Attributes:
        spec_version: The hook specifications it was written for.
        devices: Names its `device` argument takes.
        precisions: Names its export and quantize know.
        file_names: The files it loads by default, first choice first; empty for a backend that
            needs no file of its own.
        file_patterns: Patterns (`onnx/*.onnx`; `*` stays within a folder) of every file it loads.
        model_kwargs: Names its `model_kwargs` takes.
        exports_from: The backend whose models its export starts from; None if it has no such
            export.
        auto_export: Whether `load` may export when the file is missing.
        artifact_folder: Where its artifacts lie in a model directory ("" for the top).
        source: `"checkpoint"`, or `"name"` for backends whose models are not files (a server's).
    """

    spec_version: int = 1
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    file_names: tuple[str, ...] = ()
    file_patterns: tuple[str, ...] = ()
    model_kwargs: tuple[str, ...] = ()
    exports_from: str | None = None
    auto_export: bool = False
    artifact_folder: str = ""
    source: str = "checkpoint"


@dataclass(frozen=True)
class BackendStatus:
    """One backend as `core.backends()` reports it.

    Attributes:
        status: `"ok"`, `"broken"` (does not import or is invalid), `"duplicate"` (claimed by
            several distributions) or `"disabled"` (through `CORE_DISABLE_PLUGINS`).
        distribution: Name and version of what installed it; "" when registered in code.
        entry_point: `module:attribute` it points to; "" when registered in code.
        file: The plugin's source file.
        error: Why it is not "ok".
        hooks: Which of the six it implements.
        wrappers: Names of the wrapping plugins around it, outermost first.
    """

    name: str
    status: Literal["ok", "broken", "duplicate", "disabled"]
    distribution: str = ""
    entry_point: str = ""
    file: str = ""
    error: str = ""
    hooks: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)


@dataclass(frozen=True, eq=False)
class Plugin:
    """A validated plugin object and where it is from."""

    name: str
    implementation: Any
    distribution: str
    entry_point: str

    def __str__(self) -> str:
        origin = f" of distribution {self.distribution}" if self.distribution else ""
        return f"{self.name!r}{origin}"

    @property
    def file(self) -> str:
        try:
            return inspect.getfile(
                self.implementation
                if inspect.ismodule(self.implementation)
                else type(self.implementation)
            )
        except (TypeError, OSError):
            return ""


@dataclass(frozen=True, eq=False)
class Backend:
    """A backend ready to be called, with its wrappers."""

    plugin: Plugin
    capabilities: Capabilities
    hooks: frozenset[str]
    manager: pluggy.PluginManager
    wrappers: tuple[Plugin, ...]

    @property
    def name(self) -> str:
        return self.plugin.name


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An entry point, not loaded yet, or an object registered in code."""

    name: str
    entry_point: importlib.metadata.EntryPoint | None = None
    implementation: Any = None

    @property
    def distribution(self) -> str:
        dist = self.entry_point.dist if self.entry_point is not None else None
        return f"{dist.name} {dist.version}" if dist is not None else ""

    @property
    def value(self) -> str:
        return self.entry_point.value if self.entry_point is not None else ""


class _Invalid(Exception):  # noqa: N818 - a reason on its way to a message
    """Why a plugin cannot be used."""


class Registry:
    """All plugins of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._registered: dict[str, dict[str, Any]] = {BACKEND_GROUP: {}, PLUGIN_GROUP: {}}
        self._loaded: dict[str, Backend] = {}

    def register(
        self, group: str, name: str, implementation: Any, *, replace: bool = False
    ) -> None:
        """Offer an object as if an entry point named it.

        Raises:
            OptionError: The name is not usable or taken by another object.
            BackendLoadError: The object is no valid plugin.
        """
        if not isinstance(name, str) or not name or not name.replace("-", "_").isidentifier():
            raise OptionError(f"A plugin's name must read like an identifier, not {name!r}.")
        with self._lock:
            earlier = self._registered[group].get(name)
            if earlier is not None and earlier is not implementation and not replace:
                raise OptionError(
                    f"Another object is registered as {name!r} already. Choose another name, or "
                    "pass replace=True."
                )
            installed = [c.distribution for c in _installed(group) if c.name == name]
            if installed:
                raise OptionError(
                    f"{name!r} is already installed by distribution {installed[0]}; "
                    "choose another name."
                )
            candidate = _Candidate(name, implementation=implementation)
            try:
                _validate(implementation, required=group == BACKEND_GROUP)
            except _Invalid as error:
                raise BackendLoadError(_broken(candidate, group, str(error))) from error
            self._registered[group][name] = implementation
            if group == PLUGIN_GROUP:
                self._loaded.clear()  # every backend is wrapped anew
            else:
                self._loaded.pop(name, None)

    def unregister(self, group: str, name: str) -> None:
        """Undo `register`; unknown names are ignored."""
        with self._lock:
            self._registered[group].pop(name, None)
            self._loaded.clear()

    def backend(self, name: str) -> Backend:
        """The named backend, imported and validated on first use.

        Raises:
            BackendNotFound: Nothing installed has this name.
            BackendLoadError: It is installed and unusable, disabled, or claimed twice.
        """
        loaded = self._loaded.get(name)
        if loaded is not None:
            return loaded
        if not isinstance(name, str):
            raise OptionError(f"A backend is named by a string, not {name!r}.")
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None:
                loaded = self._loaded[name] = self._load(name)
            return loaded

    def names(self) -> tuple[str, ...]:
        """Every installed or registered backend, disabled ones left out, none imported."""
        disabled = disabled_plugins()
        found = {c.name for c in self._candidates(BACKEND_GROUP)}
        return tuple(sorted(found - disabled))

    def statuses(self) -> dict[str, BackendStatus]:
        """Load every backend and report on each."""
        by_name: dict[str, list[_Candidate]] = {}
        for candidate in self._candidates(BACKEND_GROUP):
            by_name.setdefault(candidate.name, []).append(candidate)
        return {name: self._status(name, found) for name, found in sorted(by_name.items())}

    def wrapper_candidates(self) -> dict[str, str]:
        """Name and distribution of every wrapping plugin, none imported."""
        return {c.name: c.distribution for c in self._candidates(PLUGIN_GROUP)}

    def _status(self, name: str, found: list[_Candidate]) -> BackendStatus:
        origin = {
            "distribution": ", ".join(c.distribution for c in found if c.distribution),
            "entry_point": ", ".join(c.value for c in found if c.value),
        }
        if name in disabled_plugins():
            return BackendStatus(
                name, "disabled", error=f"Switched off by {DISABLE_VARIABLE}.", **origin
            )
        try:
            backend = self.backend(name)
        except BackendLoadError as error:
            status: Literal["broken", "duplicate"] = "duplicate" if len(found) > 1 else "broken"
            return BackendStatus(name, status, error=str(error), **origin)
        return BackendStatus(
            name,
            "ok",
            file=backend.plugin.file,
            hooks=tuple(hook for hook in HOOK_NAMES if hook in backend.hooks),
            wrappers=tuple(plugin.name for plugin in backend.wrappers),
            capabilities=backend.capabilities,
            **origin,
        )

    def _candidates(self, group: str) -> list[_Candidate]:
        registered = [
            _Candidate(name, implementation=implementation)
            for name, implementation in self._registered[group].items()
        ]
        return [*_installed(group), *registered]

    def _load(self, name: str) -> Backend:
        if name in disabled_plugins():
            raise BackendLoadError(
                f"Backend {name!r} is switched off by {DISABLE_VARIABLE}="
                f"{os.environ[DISABLE_VARIABLE]!r}. Remove it from that variable to use it."
            )
        found = [c for c in self._candidates(BACKEND_GROUP) if c.name == name]
        if not found:
            raise BackendNotFound(self._not_found(name))
        if len(found) > 1:
            claimants = " and ".join(f"{c.distribution} ({c.value})" for c in found)
            raise BackendLoadError(
                f"Backend {name!r} is claimed by {len(found)} distributions: {claimants}. "
                "Uninstall all but one of them."
            )
        plugin = _open(found[0], BACKEND_GROUP)
        try:
            hooks = _validate(plugin.implementation, required=True)
            capabilities = _capabilities(plugin.implementation)
        except _Invalid as error:
            raise BackendLoadError(_broken(found[0], BACKEND_GROUP, str(error))) from error
        manager = _new_manager()
        manager.register(plugin.implementation, name=name)
        wrappers = self._wrappers()
        # The last one registered is outermost; the first by name shall be.
        for wrapper in reversed(wrappers):
            manager.register(wrapper.implementation, name=f"plugin:{wrapper.name}")
        return Backend(plugin, capabilities, hooks, manager, tuple(wrappers))

    def _wrappers(self) -> list[Plugin]:
        """Every usable wrapping plugin, by name; a broken one is dropped with a warning."""
        usable = []
        disabled = disabled_plugins()
        seen: set[str] = set()
        for candidate in sorted(self._candidates(PLUGIN_GROUP), key=lambda c: c.name):
            if candidate.name in disabled:
                continue
            if candidate.name in seen:
                logger.warning(
                    "%s",
                    _broken(candidate, PLUGIN_GROUP, "another distribution has the same name")
                    + " It is left out.",
                )
                continue
            seen.add(candidate.name)
            try:
                plugin = _open(candidate, PLUGIN_GROUP)
                _validate(plugin.implementation, required=False)
            except (BackendLoadError, _Invalid) as error:
                why = (
                    str(error)
                    if isinstance(error, BackendLoadError)
                    else _broken(candidate, PLUGIN_GROUP, str(error))
                )
                logger.warning("%s It is left out.", why)
                continue
            usable.append(plugin)
        return usable

    def _not_found(self, name: str) -> str:
        names = self.names()
        command = INSTALL_COMMANDS.get(name)
        if command:
            return f"Backend {name!r} is not installed. Install it: `{command}`."
        if not names:
            return f"Backend {name!r} is not installed, nor is any other. {install_hint()}"
        import difflib

        close = difflib.get_close_matches(name, [*names, *INSTALL_COMMANDS], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"There is no backend {name!r}.{hint} Installed: {', '.join(names)}."


def install_hint() -> str:
    """The sentence that tells how to install a backend."""
    commands = ", ".join(f"`{command}`" for command in INSTALL_COMMANDS.values())
    return f"Install one with {commands}."


def disabled_plugins() -> set[str]:
    """Names in `CORE_DISABLE_PLUGINS`."""
    value = os.environ.get(DISABLE_VARIABLE, "")
    return {name.strip() for name in value.split(",") if name.strip()}


def _installed(group: str) -> list[_Candidate]:
    return [
        _Candidate(entry_point.name, entry_point=entry_point)
        for entry_point in importlib.metadata.entry_points(group=group)
    ]


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _open(candidate: _Candidate, group: str) -> Plugin:
    implementation = candidate.implementation
    if candidate.entry_point is not None:
        try:
            implementation = candidate.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin must not end the process
            raise BackendLoadError(
                _broken(candidate, group, f"importing it raised {type(error).__name__}: {error}")
            ) from error
    if inspect.isclass(implementation):
        implementation = implementation()
    return Plugin(candidate.name, implementation, candidate.distribution, candidate.value)


def _broken(candidate: _Candidate, group: str, why: str) -> str:
    kind = "Backend" if group == BACKEND_GROUP else "Plugin"
    origin = (
        f" (entry point {candidate.value!r} of distribution {candidate.distribution})"
        if candidate.entry_point is not None
        else ""
    )
    mend = (
        f" Update or uninstall that distribution, or set {DISABLE_VARIABLE}={candidate.name}."
        if candidate.entry_point is not None
        else ""
    )
    return f"{kind} {candidate.name!r}{origin} cannot be used: {why}.{mend}"


def _validate(implementation: Any, *, required: bool) -> frozenset[str]:
    """The hooks a plugin implements, after every check that can be made without calling it."""
    version = getattr(implementation, "SPEC_VERSION", SPEC_VERSION)
    if not isinstance(version, int):
        raise _Invalid(f"its SPEC_VERSION is {version!r}, not an integer")
    if version < OLDEST_SPEC_VERSION:
        raise _Invalid(
            f"it was written for version {version} of the hook specifications, and this core runs "
            f"{OLDEST_SPEC_VERSION} to {SPEC_VERSION}: it is too old"
        )
    if version > SPEC_VERSION:
        raise _Invalid(
            f"it was written for version {version} of the hook specifications, and this core runs "
            f"{OLDEST_SPEC_VERSION} to {SPEC_VERSION}: core is too old (`pip install -U core`)"
        )
    manager = _new_manager()
    try:
        manager.register(implementation)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = str(error).replace("\n", " ")
        raise _Invalid(f"its hooks do not fit the specifications: {reason}") from error
    except Exception as error:
        raise _Invalid(f"its attributes cannot be read: {error!r}") from error
    callers = manager.get_hookcallers(implementation) or []
    hooks = frozenset(caller.name for caller in callers)
    if not hooks:
        raise _Invalid("it implements no hook; mark its functions with core.hookimpl")
    missing = [hook for hook in REQUIRED_HOOKS if hook not in hooks]
    if required and missing:
        raise _Invalid(f"it does not implement {' and '.join(missing)}")
    return hooks


def _capabilities(implementation: Any) -> Capabilities:
    stated: dict[str, Any] = {}
    defaults = Capabilities()
    for name in defaults.__dataclass_fields__:
        attribute = name.upper()
        if not hasattr(implementation, attribute):
            continue
        value = getattr(implementation, attribute)
        default = getattr(defaults, name)
        if isinstance(default, tuple):
            if isinstance(value, str) or not all(isinstance(v, str) for v in value):
                raise _Invalid(f"its {attribute} must be a tuple of strings, not {value!r}")
            value = tuple(value)
        stated[name] = value
    return Capabilities(**stated)


def status_table(statuses: Mapping[str, BackendStatus]) -> list[tuple[str, str, str, str]]:
    """(name, status, distribution, hooks or error) of each backend."""
    return [
        (s.name, s.status, s.distribution or "registered in code", ", ".join(s.hooks) or s.error)
        for s in statuses.values()
    ]


#: The plugins of this process.
registry = Registry()
