"""Plugins as pluggy calls them: each implementation notes what came out of it.

pluggy says that a call failed, not whose fault it was. The trail of one call lists what each
implementation returned or raised, innermost first, so the first bad entry names the culprit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pluggy

from core import hookspecs, tracing
from core.capabilities import UNSTATED_SPEC_VERSION
from core.discovery import BACKEND_GROUP, InvalidPlugin, Plugin
from core.errors import PluginError
from core.hookspecs import (
    HOOK_NAMES,
    OLDEST_SPEC_VERSION,
    PROJECT,
    REQUIRED_HOOKS,
    SPEC_VERSION,
    hookimpl,
)

#: What implementations returned or raised, innermost first.
Trail = list[tuple[Plugin, Any]]

#: A hook's name and one implementation of it.
Implementation = tuple[str, pluggy.HookImpl]


class _Recorder(threading.local):
    def __init__(self) -> None:
        self.trail: Trail = []


#: The trail of the call this thread is in.
recorder = _Recorder()


def new_manager() -> pluggy.PluginManager:
    """A manager that knows the six hooks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


class GuardedPlugin:
    """The guarded implementations of one plugin, as attributes: what pluggy is given.

    Being an object of our own, it also keeps a plugin whose `==` says too much from being taken
    for another one.
    """

    def __init__(self, plugin: Plugin, implementations: Sequence[Implementation]) -> None:
        for number, (hook, implementation) in enumerate(implementations):
            function = implementation.function
            if tracing.enabled():
                function = tracing.timed(plugin, hook, function, wrapper=implementation.wrapper)
            guard = _guard_wrapper if implementation.wrapper else _guard_call
            mark = hookimpl(
                specname=hook,
                wrapper=implementation.wrapper,
                tryfirst=implementation.tryfirst,
                trylast=implementation.trylast,
            )
            setattr(self, f"{hook}_{number}", mark(guard(plugin, hook, function)))


def _guard_call(plugin: Plugin, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain implementation. A plugin's may return None to leave the call to the next one."""
    may_pass = plugin.group != BACKEND_GROUP

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            result = function(*arguments, **keywords)
        except BaseException as error:
            recorder.trail.append((plugin, error))
            raise
        if result is not None or not may_pass:
            recorder.trail.append((plugin, result))
        return result

    return call


def _guard_wrapper(
    plugin: Plugin, hook: str, function: Callable[..., Any]
) -> Callable[..., Generator[None, Any, Any]]:
    """A wrapper: a generator that yields once and returns the result."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Generator[None, Any, Any]:
        generator = function(*arguments, **keywords)
        try:
            try:
                next(generator)
            except StopIteration:
                raise PluginError(f"{hook} of {plugin} did not yield.") from None
            try:
                value = yield
            except BaseException as error:
                generator.throw(error)
            else:
                generator.send(value)
        except StopIteration as stop:
            recorder.trail.append((plugin, stop.value))
            return stop.value
        except BaseException as error:
            recorder.trail.append((plugin, error))
            raise
        generator.close()
        raise PluginError(f"{hook} of {plugin} yielded twice; a wrapper yields once.")

    return call


def read_implementations(plugin: Plugin) -> tuple[Implementation, ...]:
    """The hooks a plugin implements, after every check that can be made without calling it.

    Raises:
        InvalidPlugin: Its version, a hook's name, its arguments or its kind do not fit.
    """
    _check_version(plugin.implementation)
    manager = new_manager()
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
        if implementation.hookwrapper:
            raise InvalidPlugin(
                f"its {hook} is marked hookwrapper=True, pluggy's old style; use wrapper=True"
            )
    (_check_backend if plugin.group == BACKEND_GROUP else _check_plugin)(found)
    return found


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
                f"its {hook} is a wrapper; a backend computes, and wrappers belong into a plugin "
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
