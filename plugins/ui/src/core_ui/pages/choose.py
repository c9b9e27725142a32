"""Choose: `core tune` with its table and plot; one click takes the recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import OptionError
from core_ui import markup, snippets
from core_ui.jobs import Job
from core_ui.pages.running import (
    Context,
    Panel,
    Plan,
    Source,
    lines_of,
    revision_words,
    upload_into,
)
from core_ui.sessions import Session, Variant

_TEXTS = "texts.txt"
_PLOT = "front.svg"
_COLUMNS = {
    "Texts/s": ("texts_per_second", "{:,.0f}"),
    "p50 ms": ("p50_ms", "{:.2f}"),
    "Files MB": ("size_bytes", "{:,.1f}"),
    "Min. cosine": ("min_cosine", "{:.4f}"),
    "Recall@10": ("recall_at_10", "{:.3f}"),
}


def draw(context: Context, source: Source) -> None:
    """Draw the page."""
    texts = gr.Textbox(
        "",
        label="Texts like those you will embed, one a line",
        info="Some hundreds, better 2,000: they calibrate and judge",
        lines=6,
        elem_id="choose-texts",
    )
    upload_into(texts)
    with gr.Row():
        objective = gr.Radio(
            ["throughput", "latency", "memory"],
            value="throughput",
            label="Best for",
            elem_id="choose-objective",
        )
        minutes = gr.Number(10, minimum=0.1, label="Minutes it may take", elem_id="choose-minutes")
        recall = gr.Number(
            0.99,
            minimum=0,
            maximum=1,
            step=0.01,
            label="Recall@10 to keep",
            elem_id="choose-recall",
        )
    target = gr.Textbox(
        "",
        label="Target directory",
        info="For the recommendation; NAME-tuned if empty",
        elem_id="choose-target",
    )
    panel = Panel(context, "choose", "Measure")
    take = gr.Button("Take the recommendation", interactive=False, elem_id="choose-take")
    reason = gr.HTML("", elem_id="choose-reason")
    table = gr.HTML("", elem_id="choose-table")
    plot = gr.HTML("", elem_id="choose-plot")
    code = gr.HTML("", elem_id="choose-code")

    def planned(write: bool) -> Any:
        def plan(
            session: Session, model: str, revision: str, token: str, texts: str,
            objective: str, minutes: float | None, recall: float | None,
            target: str,
        ) -> Plan:  # fmt: skip
            place = context.roots.model(model)
            goal = context.roots.target(target.strip() or f"{Path(place).name}-tuned")
            lines = lines_of(texts)
            if not lines:
                raise OptionError("Give some hundred texts like those you will embed.")
            if minutes is None or recall is None:
                raise OptionError("Give the minutes it may take, and the recall to keep.")

            def steps(folder: Path) -> list[list[str]]:
                words = ["tune", place, "--texts", str(folder / _TEXTS), "--target", goal]
                words += ["--minutes", f"{minutes:g}", "--for", objective]
                words += ["--min-recall", f"{recall:g}", *revision_words(revision)]
                words += ["--plot", str(folder / _PLOT)]
                return [[*words, *([] if write else ["--dry-run"]), "--json"]]

            return Plan(
                steps,
                snippets.tune(
                    place, revision.strip(), _TEXTS, target=goal, minutes=minutes,
                    objective=objective, min_recall=recall, write=None if write else False,
                ),
                texts={_TEXTS: "\n".join(lines) + "\n"},
                token=token.strip(),
                notes={"kind": session.kind_of(place)},
            )  # fmt: skip

        return plan

    def show(session: Session, job: Job | None) -> list[Any]:
        if job is None:
            return [gr.Button(interactive=False), "", "", ""]
        (report,) = job.results()
        said = report["reason"]
        if report["lock"]:
            folder = str(Path(report["lock"]).parent)
            session.note_made(Variant(folder, kind=job.notes["kind"]))
            said += f" Written to {folder}; core.load follows it."
        drawing = job.folder / _PLOT
        picture = drawing.read_text(encoding="utf-8") if drawing.is_file() else ""
        return [
            gr.Button(interactive=not report["lock"]),
            markup.note(said),
            markup.table(
                "Variants, the best first", ["Variant", *_COLUMNS, "Status"], _rows(report)
            ),
            f'<div class="core-plot">{picture}</div>',
        ]

    inputs = [*source.fields, texts, objective, minutes, recall, target]
    panel.wire(
        inputs,
        planned(False),
        [take, reason, table, plot],
        show,
        code,
        again=take,
        plan_again=planned(True),  # what was measured is kept, so this only writes
    )


def _rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for variant in report["variants"]:
        figures = []
        for name, form in _COLUMNS.values():
            value = variant[name]
            if value is not None and name == "size_bytes":
                value /= 1e6
            figures.append("-" if value is None else form.format(value))
        note = variant["note"] or variant["status"]
        if variant["name"] == report["best"]["name"]:
            note = "recommended"
        rows.append([variant["name"], *figures, note])
    return rows
