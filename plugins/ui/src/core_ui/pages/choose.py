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
_CHOSEN = "tuned"
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
    panel = Panel(context, "choose", "Measure")
    reason = gr.HTML("", elem_id="choose-reason")
    table = gr.HTML("", elem_id="choose-table")
    plot = gr.HTML("", elem_id="choose-plot")
    code = gr.HTML("", elem_id="choose-code")
    with gr.Group(visible=False) as recommendation:
        target = gr.Textbox(
            "",
            label="Target directory",
            info="For the recommendation; NAME-tuned if empty",
            elem_id="choose-target",
        )
        taking = Panel(context, "take", "Take the recommendation")
        taken = gr.HTML("", elem_id="choose-taken")
        taking_code = gr.HTML("", elem_id="choose-take-code")

    def plan(
        session: Session, model: str, revision: str, token: str, texts: str, objective: str,
        minutes: float | None, recall: float | None,
    ) -> Plan:  # fmt: skip
        place = context.roots.model(model)
        lines = lines_of(texts)
        if not lines:
            raise OptionError("Give some hundred texts like those you will embed.")
        if minutes is None or recall is None:
            raise OptionError("Give the minutes it may take, and the recall to keep.")
        if (copying := session.jobs.get("take")) is not None and copying.state == "running":
            raise OptionError("The last recommendation is being taken: wait for it.")

        def steps(folder: Path) -> list[list[str]]:
            # What it recommends waits here until it is taken.
            words = ["tune", place, "--texts", str(folder / _TEXTS)]
            words += ["--target", str(folder / _CHOSEN), "--minutes", f"{minutes:g}"]
            words += ["--for", objective, "--min-recall", f"{recall:g}", *revision_words(revision)]
            return [[*words, "--plot", str(folder / _PLOT), "--json"]]

        goal = {"minutes": minutes, "objective": objective, "min_recall": recall}
        return Plan(
            steps,
            snippets.tune(place, revision.strip(), _TEXTS, target=_CHOSEN, **goal),
            texts={_TEXTS: "\n".join(lines) + "\n"},
            token=token.strip(),
            notes={"kind": session.kind_of(place), "name": Path(place).name},
        )

    def show(session: Session, job: Job | None) -> list[Any]:
        if job is None:
            return ["", "", "", gr.Group(visible=False)]
        (report,) = job.results()
        drawing = job.folder / _PLOT
        picture = drawing.read_text(encoding="utf-8") if drawing.is_file() else ""
        headers = ["Variant", *_COLUMNS, "Status"]
        return [
            markup.note(report["reason"]),
            markup.table("Variants, the best first", headers, _rows(report)),
            f'<div class="core-plot">{picture}</div>',
            gr.Group(visible=True),
        ]

    def plan_take(session: Session, target: str) -> Plan:
        job = session.jobs.get("choose")
        if job is None or job.state != "done":
            raise OptionError("Measure first.")
        goal = context.roots.target(target.strip() or f"{job.notes['name']}-tuned")
        chosen = Variant(_CHOSEN, backend="tuned", kind=job.notes["kind"])
        place = str(job.folder / _CHOSEN)

        def steps(folder: Path) -> list[list[str]]:
            model = place if folder.is_absolute() else _CHOSEN
            return [["save", model, goal, "--backend", "tuned", "--json"]]

        return Plan(steps, snippets.save(chosen, goal), notes={"kind": job.notes["kind"]})

    def show_taken(session: Session, job: Job | None) -> list[str]:
        if job is None:
            return [""]
        folder = job.results()[0]["directory"]
        session.note_made(Variant(folder, kind=job.notes["kind"]))
        return [markup.note(f"Written to {folder}; core.load follows what was measured.")]

    context.fields.keep(texts, objective, minutes, recall, target)
    inputs = [*source.fields, texts, objective, minutes, recall]
    panel.wire(inputs, plan, [reason, table, plot, recommendation], show, code)
    taking.wire([target], plan_take, [taken], show_taken, taking_code)


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
