"""A page's job: the button that starts it, its progress, its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import CoreError, OptionError
from core_ui import markup
from core_ui.access import browser_of
from core_ui.jobs import Job, Jobs, Steps
from core_ui.pages.fields import PRIVATE, Fields
from core_ui.paths import Roots
from core_ui.sessions import Session, Sessions
from core_ui.snippets import shell_lines

_SECONDS = 1.0
_IDLE = "Nothing was started."


@dataclass(frozen=True)
class Context:
    """What every page needs.

    Attributes:
        cookie: What holds the browser's name.
        fields: Of all pages, as they are drawn.
    """

    blocks: Any
    roots: Roots
    jobs: Jobs
    sessions: Sessions
    cookie: str
    fields: Fields = field(default_factory=Fields)

    def session(self, request: gr.Request) -> Session:
        """Of the browser that asks; gradio shows why there is none."""
        cookies = dict(request.headers).get("cookie", "")
        try:
            return self.sessions.of(browser_of(cookies, self.cookie))
        except OptionError as error:
            raise gr.Error(str(error)) from error


@dataclass(frozen=True)
class Source:
    """Gradio's fields for the model's name, its revision and the token for the Hub."""

    name: Any
    revision: Any
    token: Any

    @property
    def fields(self) -> list[Any]:
        """In the order in which functions take them; all but the token are shown lines too."""
        return [self.name, self.revision, self.token]


@dataclass(frozen=True)
class Plan:
    """What a page is about to run.

    Attributes:
        steps: Command lines, given the folder of the job's files.
        python: Python that does the same.
        texts: Files of that folder.
        token: For the Hub.
        notes: What showing the result needs.
    """

    steps: Steps
    python: str
    texts: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def code(self) -> str:
        """The lines that do the same, with the files of the job under their plain names."""
        return markup.code(self.python, shell_lines(self.steps(Path())))


Planner = Callable[..., Plan]
#: Values of the page's results, of a job that is done; None before.
Shower = Callable[[Session, Job | None], Sequence[Any]]


class Panel:
    """Start, cancel, status and log of a page's jobs, one at a time in each browser.

    Args:
        slot: The page's name in the session.
        start: What the button says.
    """

    def __init__(self, context: Context, slot: str, start: str) -> None:
        self._context = context
        self._slot = slot
        with gr.Row():
            self.start = gr.Button(start, variant="primary", elem_id=f"{slot}-start")
            self.cancel = gr.Button("Cancel", interactive=False, elem_id=f"{slot}-cancel")
        self._status = gr.HTML(markup.status(_IDLE), elem_id=f"{slot}-status")
        self._log = gr.HTML("", elem_id=f"{slot}-log")
        self._timer = gr.Timer(_SECONDS, active=False)

    def wire(
        self,
        inputs: Sequence[Any],
        plan: Planner,
        outputs: Sequence[Any],
        show: Shower,
        code: Any,
    ) -> None:
        """Connect the buttons.

        Args:
            inputs: Components whose values `plan` takes, after the session.
            plan: Checks them and says what to run, or raises a CoreError.
            outputs: Components that show the result.
            show: Their values.
            code: Shows the lines that do the same.
        """
        context, slot = self._context, self._slot
        shown = [self._status, self._log, self._timer, self.start, self.cancel, *outputs]

        def view(session: Session, message: str = "") -> list[Any]:
            job = session.jobs.get(slot)
            if job is None:
                status = markup.status(message or _IDLE, kind="bad" if message else "plain")
                return [status, "", *_controls(running=False), *show(session, None)]
            done = job if job.state == "done" else None
            values = show(session, done)
            status = markup.status(message, kind="bad") if message else _status(job)
            running = job.state == "running"
            return [status, markup.log(job.lines), *_controls(running=running), *values]

        def start(request: gr.Request, *values: Any) -> list[Any]:
            session = context.session(request)
            try:
                job = session.jobs.get(slot)
                if job is not None and job.state == "running":
                    raise OptionError("A job of this page runs: wait for it, or cancel it.")
                planned = plan(session, *values)
                started = context.jobs.start(
                    planned.steps,
                    token=planned.token,
                    texts=planned.texts,
                    notes={**planned.notes, "code": planned.code()},
                )
            except CoreError as error:
                return [gr.skip(), *view(session, str(error))]
            session.jobs[slot] = started
            if job is not None:
                context.jobs.forget(job)
            return [started.notes["code"], *view(session)]

        def stop(request: gr.Request) -> list[Any]:
            session = context.session(request)
            if (job := session.jobs.get(slot)) is not None:
                job.cancel()
            return view(session)

        def look(request: gr.Request) -> list[Any]:
            return view(context.session(request))

        def preview(request: gr.Request, *values: Any) -> str:
            session = context.session(request)
            try:
                return plan(session, *values).code()
            except CoreError as error:
                return markup.note(f"Not yet: {error}")

        def found(request: gr.Request, *values: Any) -> list[Any]:
            session = context.session(request)
            job = session.jobs.get(slot)
            lines = preview(request, *values) if job is None else job.notes["code"]
            return [lines, *view(session)]

        self.start.click(start, list(inputs), [code, *shown], **PRIVATE)
        self.cancel.click(stop, None, shown, **PRIVATE)
        self._timer.tick(look, None, shown, **PRIVATE)
        context.fields.then(found, inputs, [code, *shown])
        context.fields.preview(preview, inputs, code)


def _controls(*, running: bool) -> list[Any]:
    """Timer, start and cancel."""
    return [
        gr.Timer(_SECONDS, active=running),
        gr.Button(interactive=not running),
        gr.Button(interactive=running),
    ]


def _status(job: Job) -> str:
    said = f"{job.seconds:.0f} s"
    if job.state == "running":
        last = f": {job.lines[-1]}" if job.lines else ""
        if job.is_cancelled:
            return markup.status(f"Cancelling, {said}")
        return markup.status(f"Running, {said}{last}")
    if job.state == "cancelled":
        return markup.status(f"Cancelled after {said}. Nothing was left behind.")
    if job.state == "failed":
        return markup.status(job.failure, kind="bad")
    return markup.status(f"Done in {said}.", kind="good")


def revision_words(revision: str) -> list[str]:
    """For the command line."""
    return ["--revision", revision.strip()] if revision.strip() else []


def lines_of(text: str | None) -> list[str]:
    """Texts, one a line, as commands read them: other separators are part of a text."""
    return [line.strip() for line in (text or "").split("\n") if line.strip()]


def upload_into(texts: Any) -> None:
    """Draw a button that puts a file's lines into a text box, where they are seen and edited."""
    button = gr.UploadButton("Texts from a file (.txt)", file_types=[".txt"], size="sm")
    said = gr.HTML("")

    def read(path: str) -> list[Any]:
        try:
            return ["", Path(path).read_text(encoding="utf-8-sig")]
        except (OSError, UnicodeError):
            error = f"{Path(path).name} is no text in UTF-8."
            return [markup.status(error, kind="bad"), gr.skip()]

    button.upload(read, button, [said, texts], **private_events())


def private_events() -> dict[str, Any]:
    """Arguments of events that no other program is to call."""
    return {"show_progress": "minimal", "api_visibility": "private", "concurrency_limit": 8}
