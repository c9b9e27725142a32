"""One backend's hooks called: results checked, faults blamed on whose they are."""

from __future__ import annotations

from typing import Any

from core.errors import CoreError, OptionError, PluginError, UnsupportedOperation
from core.machine.interrupts import raise_interrupt
from core.machine.surroundings import explain_surroundings
from core.models.model import Model
from core.operations.results import Check
from core.plugin.backend import Backend
from core.plugin.capabilities import Capabilities
from core.plugin.hookspecs import HOOK_NAMES
from core.plugin.plugin import Trail, raised


class BackendCalls:
    """Calls the hooks of one backend, through the plugins around it.

    Attributes:
        name: The backend's name.
        capabilities: What the backend says of itself.
        implemented: Which of the six hooks it implements.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._chains = backend.chains

    def __repr__(self) -> str:
        return f"<hooks of backend {self._backend.plugin}: {', '.join(self.implemented)}>"

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    @property
    def distribution(self) -> str:
        """Name and version of what installed the backend; "" when registered in code."""
        return self._backend.plugin.distribution

    @property
    def implemented(self) -> tuple[str, ...]:
        return tuple(hook for hook in HOOK_NAMES if hook in self._backend.hooks)

    def call(self, hook: str, check: Check, **arguments: Any) -> Any:
        """Call a hook; `check` says what is wrong with a result, or None.

        Raises:
            UnsupportedOperation: The backend does not implement it.
            PluginError: It failed, or its result is not what was asked for.
        """
        chain = self._chains.get(hook)
        if chain is None:
            raise self.unsupported(hook)
        trail: Trail = []
        try:
            result = chain(arguments, trail)
        except CoreError as error:
            raise_interrupt(error)
            raise
        except (Exception, SystemExit) as error:
            raise_interrupt(error)
            lacking = explain_surroundings(error)
            if lacking is not None:
                raise lacking from error
            culprit = next((p for p, value in trail if value is error), self._backend.plugin)
            raise PluginError(f"{hook} of {culprit} failed with {raised(error)}.") from error
        if result is None or check(result) is not None:
            raise self._wrong(hook, check, trail)
        return result

    def _wrong(self, hook: str, check: Check, trail: Trail) -> PluginError:
        """Name the innermost plugin whose result was bad; those around it passed it on."""
        culprit, what = self._backend.plugin, "returned nothing"
        for plugin, value in trail:
            if isinstance(value, BaseException):
                continue
            fault = "returned nothing" if value is None else check(value)
            if fault is not None:
                culprit, what = plugin, fault
                break
        return PluginError(f"{hook} of {culprit} {what}.")

    def check_implements(self, hook: str) -> None:
        """Raise `UnsupportedOperation` where the backend lacks a hook."""
        if hook not in self._backend.hooks:
            raise self.unsupported(hook)

    def unsupported(self, hook: str) -> UnsupportedOperation:
        """The error for a hook that the backend lacks."""
        return UnsupportedOperation(
            f"The {self.name} backend does not implement {hook}. It implements "
            f"{', '.join(self.implemented)}."
        )

    def check_model(self, hook: str, model: Model) -> None:
        """Raise `OptionError` for a model that a hook of this backend cannot take."""
        if not isinstance(model, Model):
            raise OptionError(
                f"{hook} takes a model, as core.load returns it, not {type(model).__name__}."
            )
        if model.closed:
            raise OptionError(f"{model!r} is closed. Load it again to use it.")
        owner = model.owner
        if owner is not None and owner.name != self.name:
            raise OptionError(
                f"{model!r} belongs to the {model.backend} backend; "
                f"call core.hooks({model.backend!r}).{hook}."
            )
