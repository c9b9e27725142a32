"""Publish: a directory of its own, a commit or a pull request on the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import CoreError, OptionError
from core_ui import markup, snippets
from core_ui.jobs import Job
from core_ui.pages.compare import choices
from core_ui.pages.running import Context, Panel, Plan, Source
from core_ui.sessions import Session

_TEXT = "text.md"
_PULL_REQUEST = re.compile(r"/discussions/(\d+)$")


def draw(context: Context, source: Source, tab: Any) -> None:
    """Draw the page; its choices are made anew when its tab is opened."""
    chosen = gr.Dropdown([], label="Variant", elem_id="publish-variant")
    gr.Markdown("## Save to a directory")
    target = gr.Textbox(
        "",
        label="Directory",
        info="Gets the model with this one file, ready to load or copy",
        elem_id="publish-target",
    )
    saving = Panel(context, "save", "Save")
    saved = gr.HTML("", elem_id="publish-saved")
    saving_code = gr.HTML("", elem_id="publish-save-code")
    gr.Markdown("## Push to the Hub")
    with gr.Row():
        repository = gr.Textbox(
            "", label="Repository", info="owner/name", elem_id="publish-repository"
        )
        token = gr.Textbox(
            "",
            label="Token",
            type="password",
            info="With write access; the stored login if empty. Never stored, never logged",
            elem_id="publish-token",
        )
    request_it = gr.Checkbox(True, label="As a pull request", elem_id="publish-pr")
    draft = gr.Button("Draft the text", elem_id="publish-draft")
    said = gr.HTML("", elem_id="publish-draft-status")
    text = gr.Textbox(
        "",
        label="Text", info="How it was made and how far it drifts, if empty", lines=8,
        elem_id="publish-text",
    )  # fmt: skip
    pushing = Panel(context, "push", "Push")
    pushed = gr.HTML("", elem_id="publish-pushed")
    pushing_code = gr.HTML("", elem_id="publish-push-code")

    def offer(request: gr.Request, model: str, revision: str, label: str | None) -> Any:
        session = context.session(request)
        labels = list(choices(context, session, model, revision))
        label = label or session.fields.get("publish-variant")
        return gr.Dropdown(
            labels, value=label if label in labels else (labels[0] if labels else None)
        )

    tab.select(
        offer, [source.name, source.revision, chosen], chosen,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip

    context.fields.note(chosen)
    context.fields.keep(target, repository, token, request_it, text)

    def plan_save(
        session: Session, model: str, revision: str, token: str, label: str | None, target: str
    ) -> Plan:
        variant = choices(context, session, model, revision).get(label or "")
        if variant is None:
            raise OptionError("Choose a variant.")
        goal = context.roots.target(target)
        return Plan(
            lambda folder: [["save", *variant.words(), goal, "--json"]],
            snippets.save(variant, goal),
            token=token.strip(),
        )

    def show_saved(session: Session, job: Job | None) -> list[str]:
        return ["" if job is None else markup.note(f"Saved to {job.results()[0]['directory']}.")]

    saving.wire([*source.fields, chosen, target], plan_save, [saved], show_saved, saving_code)

    def push_words(
        session: Session, model: str, revision: str, label: str | None, repository: str,
        request_it: bool,
    ) -> tuple[Any, list[str]]:  # fmt: skip
        variant = choices(context, session, model, revision).get(label or "")
        if variant is None or not variant.is_artifact:
            raise OptionError(
                "Choose something that was made here: a file with a record of how it was made."
            )
        path = str(context.roots.file(variant.path))
        if not repository.strip():
            raise OptionError("Name the repository: owner/name.")
        words = ["push", path, repository.strip()]
        return variant, [*words, *(["--create-pr"] if request_it else [])]

    def suggest(
        request: gr.Request, model: str, revision: str, label: str | None, repository: str,
        request_it: bool,
    ) -> list[Any]:  # fmt: skip
        session = context.session(request)
        try:
            _, words = push_words(session, model, revision, label, repository, request_it)
            job = context.jobs.start(lambda folder: [[*words, "--dry-run", "--json"]])
            job.wait()
            context.jobs.forget(job)
            return ["", job.results()[0]["text"]]
        except CoreError as error:
            return [markup.status(str(error), kind="bad"), gr.skip()]

    draft.click(
        suggest, [source.name, source.revision, chosen, repository, request_it], [said, text],
        show_progress="minimal", api_visibility="private", concurrency_limit=8,
    )  # fmt: skip

    def plan_push(
        session: Session, model: str, revision: str, label: str | None, repository: str,
        token: str, request_it: bool, text: str,
    ) -> Plan:  # fmt: skip
        variant, words = push_words(session, model, revision, label, repository, request_it)
        given = _TEXT if text.strip() else ""

        def steps(folder: Path) -> list[list[str]]:
            return [[*words, *(["--text", str(folder / _TEXT)] if given else []), "--json"]]

        return Plan(
            steps,
            snippets.push(words[1], words[2], given, create_pr=request_it),
            texts={_TEXT: text} if given else {},
            token=token.strip(),
            notes={"variant": variant, "repository": words[2]},
        )

    def show_pushed(session: Session, job: Job | None) -> list[str]:
        if job is None:
            return [""]
        url = job.results()[0]["url"]
        found = _PULL_REQUEST.search(url)
        lines = snippets.load_pushed(
            job.notes["variant"], job.notes["repository"], found[1] if found else ""
        )
        return [markup.note(f"Pushed: {url}") + markup.code(lines, "")]

    inputs = [source.name, source.revision, chosen, repository, token, request_it, text]
    pushing.wire(inputs, plan_push, [pushed], show_pushed, pushing_code)
