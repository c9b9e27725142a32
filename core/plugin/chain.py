"""One hook of one backend as a call: wrapping plugins, plugins that may answer, the backend.

pluggy marks, binds and validates implementations; the loop that calls them is our own, because
pluggy's keeps no result between wrappers and so cannot say whose fault a bad one is
(docs/dependencies.md has the comparison). The order is pluggy's: wrappers outermost, `tryfirst`
before the rest, and in either the first by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import pluggy

from core.errors import PluginError
from core.plugin import hookspecs, tracing
from core.plugin.capabilities import UNSTATED_SPEC_VERSION
from core.plugin.hookspecs import (
    HOOK_NAMES,
    OLDEST_SPEC_VERSION,
    PROJECT,
    REQUIRED_HOOKS,
    SPEC_VERSION,
)
from core.plugin.plugin import BACKEND_GROUP, InvalidPlugin, Plugin, Trail

#: A hook's name and one implementation of it.
Implementation = tuple[str, pluggy.HookImpl]


class Link(NamedTuple):
    """One implementation in a chain."""

    plugin: Plugin
    function: Callable[..., Any]
    names: tuple[str, ...]
    is_wrapper: bool


class Chain:
    """The implementations of one hook, outermost first.

    A wrapper is a generator that yields once and returns the result; a plain implementation of a
    plugin returns None to leave the call to the next one.
    """

    def __init__(self, hook: str, found: Sequence[tuple[Plugin, pluggy.HookImpl]]) -> None:
        self.hook = hook
        self.links = tuple(_link(hook, *pair) for pair in sorted(found, key=_order))
        self._wrappers = tuple(link for link in self.links if link.is_wrapper)
        self._plain = tuple(link for link in self.links if not link.is_wrapper)

    def __call__(self, arguments: Mapping[str, Any], trail: Trail) -> Any:
        running: list[tuple[Plugin, Generator[None, Any, Any]]] = []
        result: Any = None
        error: BaseException | None = None
        plugin = self.links[0].plugin
        try:
            for plugin, function, names, _ in self._wrappers:
                generator = function(*[arguments[name] for name in names])
                for _ in generator:
                    break
                else:
                    raise PluginError(f"{self.hook} of {plugin} did not yield.")
                running.append((plugin, generator))
            for plugin, function, names, _ in self._plain:  # noqa: B007 - named in the trail
                result = function(*[arguments[name] for name in names])
                if result is not None:
                    break
            trail.append((plugin, result))
        except BaseException as raised:
            error = raised
            trail.append((plugin, error))
        for plugin, generator in reversed(running):
            try:
                if error is None:
                    generator.send(result)
                else:
                    generator.throw(error)
                generator.close()
                error = PluginError(
                    f"{self.hook} of {plugin} yielded twice; a wrapper yields once."
                )
            except StopIteration as stop:
                result, error = stop.value, None
                trail.append((plugin, result))
            except BaseException as raised:
                if isinstance(error, StopIteration) and raised.__cause__ is error:
                    continue  # Python's own doing: a generator may not pass it on
                error = raised
                trail.append((plugin, error))
        if error is not None:
            raise error
        return result


def _link(hook: str, plugin: Plugin, implementation: pluggy.HookImpl) -> Link:
    function: Callable[..., Any] = implementation.function
    specified = getattr(hookspecs, hook).__code__.co_varnames
    names = implementation.argnames
    optional = tuple(name for name in implementation.kwargnames if name in specified)
    if optional:
        # With defaults in between that are not ours to give, only names are sure.
        names, function = names + optional, _by_name(function, names + optional)
    if tracing.enabled():
        function = tracing.timed(plugin, function, wrapper=implementation.wrapper)
    return Link(plugin, function, names, implementation.wrapper)


def _by_name(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(**dict(zip(names, arguments, strict=True)))

    return call


def _order(pair: tuple[Plugin, pluggy.HookImpl]) -> tuple[bool, bool, int, str]:
    plugin, implementation = pair
    rank = 0 if implementation.tryfirst else 2 if implementation.trylast else 1
    return not implementation.wrapper, plugin.group == BACKEND_GROUP, rank, plugin.name


def read_implementations(plugin: Plugin) -> tuple[Implementation, ...]:
    """The hooks a plugin implements, after every check that can be made without calling it.

    Raises:
        InvalidPlugin: Its version, a hook's name, its arguments or its kind do not fit.
    """
    _check_version(plugin.implementation)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin.implementation, name=plugin.name)
        manager.check_pending()
        callers = manager.get_hookcallers(plugin.implementation) or []
    except pluggy.PluginValidationError as error:
        reason = " ".join(str(error).split())
        raise InvalidPlugin(f"its hooks do not fit the specifications: {reason}") from error
    except Exception as error:
        raise InvalidPlugin(f"its attributes cannot be read: {error!r}") from error
    found = tuple(
        (caller.name, implementation)
        for caller in callers
        if caller.name in HOOK_NAMES
        for implementation in caller.get_hookimpls()
    )
    if not found:
        raise InvalidPlugin("it implements no hook; mark its functions with core.hookimpl")
    for hook, implementation in found:
        _check_arguments(hook, implementation.function)
        if implementation.hookwrapper:
            raise InvalidPlugin(
                f"its {hook} is marked hookwrapper=True, pluggy's old style; use wrapper=True"
            )
    (_check_backend if plugin.group == BACKEND_GROUP else _check_plugin)(found)
    return found


def _check_arguments(hook: str, function: Callable[..., Any]) -> None:
    """Refuse a hook whose arguments could not be given when it is called."""
    stated = inspect.signature(function).parameters
    kinds = [parameter.kind for parameter in stated.values()]
    if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL:  # a decorator that hides the names
        raise InvalidPlugin(f"its {hook} takes *{next(iter(stated))} alone: name its arguments")
    for name, parameter in stated.items():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise InvalidPlugin(f"its {hook} takes {name} by keyword only; it is given by position")


def _check_version(implementation: Any) -> None:
    try:
        version = getattr(implementation, "SPEC_VERSION", UNSTATED_SPEC_VERSION)
    except Exception as error:
        raise InvalidPlugin(f"its SPEC_VERSION cannot be read: {error!r}") from error
    if type(version) is not int:
        raise InvalidPlugin(f"its SPEC_VERSION is {version!r}, not an integer")
    if not OLDEST_SPEC_VERSION <= version <= SPEC_VERSION:
        fault = (
            "it is too old"
            if version < OLDEST_SPEC_VERSION
            else "core is too old (`pip install -U core`)"
        )
        raise InvalidPlugin(
            f"it was written for version {version} of the hook specifications, and this core runs "
            f"{OLDEST_SPEC_VERSION} to {SPEC_VERSION}: {fault}"
        )


def _check_backend(found: Sequence[Implementation]) -> None:
    for hook, implementation in found:
        if implementation.wrapper:
            raise InvalidPlugin(
                f"its {hook} is a wrapper; a backend computes, and wrappers belong in a plugin "
                "of the entry-point group core.plugins"
            )
    hooks = [hook for hook, _ in found]
    missing = [hook for hook in REQUIRED_HOOKS if hook not in hooks]
    if missing:
        raise InvalidPlugin(f"it does not implement {' and '.join(missing)}")
    twice = next((hook for hook in hooks if hooks.count(hook) > 1), None)
    if twice is not None:
        raise InvalidPlugin(f"it implements {twice} twice")


def _check_plugin(found: Sequence[Implementation]) -> None:
    for hook, implementation in found:
        if not implementation.wrapper and not implementation.tryfirst:
            raise InvalidPlugin(
                f"its {hook} would silently take the place of every backend's; mark it "
                "hookimpl(wrapper=True), or hookimpl(tryfirst=True) if it answers some calls "
                "itself and returns None for the others"
            )
