"""What a user typed and chose: the server keeps it, and a page that is loaded again shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from core_ui.sessions import Session

#: Of an event that shows no progress and that no other program is to call.
PRIVATE: Mapping[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}

#: Values of some components, from what was kept: the id of a component to its value.
Restore = Callable[[Mapping[str, Any]], Sequence[Any]]


@dataclass
class Fields:
    """The fields of all pages, collected while these are drawn."""

    _kept: list[Any] = field(default_factory=list)
    _restored: list[tuple[Sequence[Any], Restore]] = field(default_factory=list)
    _then: list[tuple[Callable[..., Any], Sequence[Any], Sequence[Any]]] = field(
        default_factory=list
    )

    def keep(self, *components: Any) -> None:
        """Keep the values of components. Those of secrets are never kept."""
        plain = [component for component in components if not is_secret(component)]
        self.note(*plain)
        self.restore(plain, partial(_as_they_were, plain))

    def note(self, *components: Any) -> None:
        """Keep values that the page itself puts back, because it has to offer choices first."""
        self._kept += components

    def restore(self, components: Sequence[Any], restore: Restore) -> None:
        """Put values back where the page is loaded."""
        self._restored.append((components, restore))

    def then(self, show: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run this when the page is loaded and its fields hold what they held."""
        self._then.append((show, inputs, outputs))

    def wire(self, blocks: Any, session_of: Callable[[gr.Request], Session]) -> None:
        """Connect the fields, once all pages are drawn."""
        # Until they are put back, a field's first value must not replace what was kept.
        is_restored = gr.State(value=False)

        def noting(name: str) -> Callable[..., None]:
            def note(request: gr.Request, may: bool, value: Any) -> None:
                if may:
                    session_of(request).fields[name] = value

            return note

        def restore(request: gr.Request) -> list[Any]:
            kept = dict(session_of(request).fields)
            values = [value for _, put_back in self._restored for value in put_back(kept)]
            return [True, *values]

        for component in self._kept:
            component.change(
                noting(component.elem_id), [is_restored, component], None,
                trigger_mode="always_last", **PRIVATE,
            )  # fmt: skip
        outputs = [component for components, _ in self._restored for component in components]
        loaded = blocks.load(restore, None, [is_restored, *outputs], **PRIVATE)
        for show, inputs, shown in self._then:
            loaded.then(show, list(inputs), list(shown), **PRIVATE)


def _as_they_were(components: Sequence[Any], kept: Mapping[str, Any]) -> list[Any]:
    return [kept.get(component.elem_id, gr.skip()) for component in components]


def is_secret(component: Any) -> bool:
    """Whether a component takes a token."""
    return getattr(component, "type", "") == "password"
