"""Try: the similarities of the user's texts, by two variants side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.errors import CoreError, OptionError
from core_ui import markup, snippets
from core_ui.jobs import Job
from core_ui.pages.running import Context, Panel, Plan, Source, lines_of
from core_ui.sessions import Session, Variant
from core_ui.similarities import check_count, compare_steps, similarities_of

_TEXTS = "texts.txt"
_MOST_TEXTS = 30
_MAP_PIXELS = 320
_EXAMPLE = "A cat sleeps on the sofa.\nA kitten naps on the couch.\nStocks fell on Monday."


def draw(context: Context, source: Source, tab: Any) -> None:
    """Draw the page; its choices are made anew when its tab is opened."""
    with gr.Row():
        left = gr.Dropdown([], label="Variant", elem_id="try-left")
        right = gr.Dropdown([], label="Beside it", elem_id="try-right")
    texts = gr.Textbox(
        _EXAMPLE, label=f"Texts, one a line (2 to {_MOST_TEXTS})", lines=5, elem_id="try-texts"
    )
    panel = Panel(context, "try", "Compare")
    with gr.Row():
        maps = []
        for side in ("left", "right"):
            with gr.Column(min_width=_MAP_PIXELS):  # below each other in a small window
                maps.append(gr.HTML("", elem_id=f"try-{side}-map"))
    code = gr.HTML("", elem_id="try-code")

    def offer(
        request: gr.Request, model: str, revision: str, first: str | None, second: str | None
    ) -> list[Any]:
        session = context.session(request)
        labels = list(choices(context, session, model, revision))
        first = first or session.fields.get("try-left")
        second = second or session.fields.get("try-right")
        if first not in labels:
            # The model as it is, beside what was made last.
            first = labels[min(1, len(labels) - 1)] if labels else None
        if second not in labels:
            second = labels[0] if labels else None
        return [gr.Dropdown(labels, value=first), gr.Dropdown(labels, value=second)]

    tab.select(
        offer, [source.name, source.revision, left, right], [left, right],
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip

    context.fields.note(left, right)
    context.fields.keep(texts)

    def plan(
        session: Session, model: str, revision: str, token: str, first: str | None,
        second: str | None, texts: str,
    ) -> Plan:  # fmt: skip
        known = choices(context, session, model, revision)
        if first not in known or second not in known:
            raise OptionError("Choose two variants; the page Model shows those of a model.")
        pair = (known[first], known[second])
        lines = lines_of(texts)
        check_count(lines, pair, _MOST_TEXTS)
        return Plan(
            lambda folder: compare_steps(pair, folder, _TEXTS),
            snippets.compare(pair, _TEXTS),
            texts={_TEXTS: "\n".join(lines) + "\n"},
            token=token.strip(),
            notes={"texts": lines, "labels": [variant.label for variant in pair]},
        )

    def show(session: Session, job: Job | None) -> list[str]:
        if job is None:
            return ["", ""]
        return [
            markup.heat_map(label, job.notes["texts"], found)
            for label, found in zip(job.notes["labels"], similarities_of(job), strict=True)
        ]

    panel.wire([*source.fields, left, right, texts], plan, maps, show, code)


def choices(context: Context, session: Session, model: str, revision: str) -> dict[str, Variant]:
    """What can be loaded, by its label."""
    try:
        place = context.roots.model(model)
    except CoreError:  # none is named yet, or one that the page Model refuses
        place = ""
    return {variant.label: variant for variant in session.variants(place, revision.strip())}
