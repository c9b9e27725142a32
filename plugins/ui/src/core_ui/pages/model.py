"""Model: which one, and what it consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from huggingface_hub import HfApi

from core.errors import CoreError, ModelError
from core_ui import markup, snippets
from core_ui.pages.running import Context, Source, private_events, revision_words
from core_ui.sessions import Session, Variant

_MOST_FOUND = 20


def draw(context: Context, named: str) -> Source:
    """Draw the page; the other pages read the model from what it returns."""
    name = gr.Textbox(
        named,
        label="Model",
        info="A directory, or owner/name on the Hub; then press Enter",
        elem_id="model-name",
    )
    with gr.Accordion("From the Hub", open=False, elem_id="model-hub"):
        with gr.Row():
            revision = gr.Textbox(
                "",
                label="Revision",
                info="Branch, tag, commit or refs/pr/N",
                elem_id="model-revision",
            )
            token = gr.Textbox(
                "",
                label="Token",
                type="password",
                info="For private models and to publish; never stored, never logged",
                elem_id="model-token",
            )
        query = gr.Textbox(
            "",
            label="Search the Hub",
            info="Asks the Hub when you press Search",
            elem_id="model-query",
        )
        search = gr.Button("Search", elem_id="model-search")
        said = gr.HTML("", elem_id="model-search-status")
        found = gr.Radio([], label="Repositories found", visible=False, elem_id="model-found")
    show = gr.Button("Show", variant="primary", elem_id="model-show")
    status = gr.HTML("", elem_id="model-status")
    facts = gr.HTML("", elem_id="model-facts")
    code = gr.HTML("", elem_id="model-code")
    source = Source(name, revision, token)
    context.fields.keep(name, revision, token, query)

    def code_of(session: Session, place: str, revision: str) -> str:
        found = Variant(place, revision, kind=session.kind_of(place))
        return markup.code(
            snippets.describe(found), snippets.shell_lines([_words(place, revision)])
        )

    def inspect(request: gr.Request, model: str, revision: str, token: str) -> list[str]:
        session = context.session(request)
        revision = revision.strip()
        lines = ""
        try:
            place = context.roots.model(model)
            lines = code_of(session, place, revision)
            words = _words(place, revision)
            job = context.jobs.start(lambda folder: [[*words, "--json"]], token=token.strip())
            job.wait()
            context.jobs.forget(job)
            session.info, session.shown = job.results()[0], (place, revision)
        except CoreError as error:
            return [markup.status(str(error), kind="bad"), "", lines]
        return ["", _describe(session), code_of(session, place, revision)]

    def begin(request: gr.Request) -> list[str]:
        session = context.session(request)
        model, revision = session.shown
        if not model:
            return inspect(request, named, "", "") if named else ["", "", ""]
        if Path(model).is_absolute():  # it may have other files by now
            return inspect(request, model, revision, "")
        # To ask the Hub again may take a token, which is not kept.
        return ["", _describe(session), code_of(session, model, revision)]

    shown = [status, facts, code]
    events = private_events()
    show.click(inspect, source.fields, shown, **events)
    name.submit(inspect, source.fields, shown, **events)
    revision.submit(inspect, source.fields, shown, **events)
    context.blocks.load(begin, None, shown, **events)
    for trigger in (search.click, query.submit):
        trigger(_look_up, [query, token], [said, found], **events)
    found.input(lambda chosen: chosen, found, name, **events)
    return source


def _words(place: str, revision: str) -> list[str]:
    """The command that says what a model is."""
    return ["info", place, *revision_words(revision)]


def _look_up(query: str, token: str) -> list[Any]:
    """Repositories of the Hub whose name has a word in it."""
    try:
        models = HfApi(token=token.strip() or None).list_models(search=query, limit=_MOST_FOUND)
        names = [model.id for model in models]
    except Exception as error:  # whatever the client raises: offline, refused, not reached
        failed = ModelError(f"The Hub did not answer the search: {error}")
        return [markup.status(str(failed), kind="bad"), gr.Radio(choices=[], visible=False)]
    said = f"{len(names)} found." if names else f"The Hub has no model with {query!r} in its name."
    return [markup.status(said), gr.Radio(choices=names, value=None, visible=bool(names))]


def _describe(session: Session) -> str:
    """What `core info` knows, as tables."""
    info = session.info
    found = {
        "Kind": str(info["kind"]).replace("_", " "),
        "Architecture": info["architecture"] or "unknown",
        "Modules": " > ".join(info["modules"]),
        "Dimension": str(info["dimension"] or "-"),
        "Longest text": f"{info['max_seq_length']} tokens" if info["max_seq_length"] else "-",
        # A reranker's scores are its own measure.
        "Similarity": None if info["kind"] == "reranker" else info["similarity"],
        "Commit": info["commit"],
        "Labels": ", ".join(info["labels"]) if info["labels"] else None,
    }
    for name, prompt in info["prompts"].items():
        default = " (default)" if name == info["default_prompt_name"] else ""
        found[f"Prompt {name}{default}"] = repr(prompt)
    if info["tuned"]:
        tuned = info["tuned"]
        chosen = f"{tuned['backend']} {tuned['file_name'] or ''} for {tuned['objective']}"
        found["Tuned"] = chosen if tuned["fits"] else f"not followed here: {tuned['why']}"
    rows = [
        [
            file["file"] + (" (default)" if file["default"] else ""),
            file["backend"],
            markup.size(file["size"]),
            file["precision"] or "?",
            file["operation"] or "-",
            markup.verification(file["verification"]),
        ]
        for file in info["artifacts"]
    ]
    headers = ["File", "Backend", "Size", "Precision", "Made by", "Agreement with its source"]
    name = Path(info["model"]).name
    files = markup.table(f"Files of {name} that a backend can load", headers, rows)
    if not files:
        files = markup.note("No installed backend finds a file that it can load.")
    known = {title: str(text) for title, text in found.items() if text is not None}
    return markup.facts(name, known) + files
