"""What a user typed and chose: the server keeps it, and a page that is loaded again shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from core_ui.sessions import Session

#: Of an event that shows no progress and that no other program is to call. Its function takes
#: values as the browser has them: gradio would refuse one that was chosen before the answer to
#: another choice changed what is offered. No state can be among its inputs.
PRIVATE: Mapping[str, Any] = {
    "preprocess": False,
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
    _previews: list[tuple[Callable[..., Any], Sequence[Any], Any]] = field(default_factory=list)
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

    def preview(self, show: Callable[..., Any], inputs: Sequence[Any], output: Any) -> None:
        """Run this after each change of one of the inputs; those of secrets are not waited for."""
        self._previews.append((show, inputs, output))

    def wire(self, blocks: Any, session_of: Callable[[gr.Request], Session]) -> None:
        """Connect the fields, once all pages are drawn."""

        def noting(name: str) -> Callable[..., None]:
            def note(request: gr.Request, value: Any) -> None:
                session = session_of(request)
                # Until they are put back, a field's first value must not replace what was kept.
                if request.session_hash in session.restored:
                    session.fields[name] = value

            return note

        def restore(request: gr.Request) -> list[Any]:
            session = session_of(request)
            values = [v for _, put_back in self._restored for v in put_back(dict(session.fields))]
            session.restored.add(str(request.session_hash))
            return values

        # One listener of each change, and all else after it: where two that defer to the last
        # change listen to the same one, Gradio's page starts both again whenever one is deferred,
        # for ever.
        for component in self._watched():
            note = noting(component.elem_id) if component in self._kept else _nothing
            changed = component.change(note, component, None, trigger_mode="always_last", **PRIVATE)
            for show, inputs, output in self._previews:
                if component in inputs:
                    changed.then(show, list(inputs), output, trigger_mode="always_last", **PRIVATE)
        outputs = [component for components, _ in self._restored for component in components]
        loaded = blocks.load(restore, None, outputs, **PRIVATE)
        for show, inputs, shown in self._then:
            loaded.then(show, list(inputs), list(shown), **PRIVATE)

    def _watched(self) -> list[Any]:
        """What is kept or previewed, each once."""
        previewed = [component for _, inputs, _ in self._previews for component in inputs]
        return [c for c in dict.fromkeys([*self._kept, *previewed]) if not is_secret(c)]


def _nothing(value: Any) -> None:
    """Of a field that is not kept."""


def _as_they_were(components: Sequence[Any], kept: Mapping[str, Any]) -> list[Any]:
    return [kept.get(component.elem_id, gr.skip()) for component in components]


def is_secret(component: Any) -> bool:
    """Whether a component takes a token."""
    return getattr(component, "type", "") == "password"
