"""The page, put together, and its server."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from core_ui.access import Guard
from core_ui.jobs import Jobs
from core_ui.pages import choose, compare, make, model, publish
from core_ui.pages.running import Context
from core_ui.paths import Roots
from core_ui.sessions import Sessions

#: Of texts, one a line: some ten thousand.
_UPLOAD_LIMIT = "5mb"
#: Uploads are removed after a day, and looked for every hour.
_UPLOADS_SECONDS = (3_600, 86_400)
_STYLE = Path(__file__).with_name("style.css")


def build(roots: Roots, named: str, jobs: Jobs, cookie: str) -> Any:
    """The page as Gradio blocks."""
    with gr.Blocks(title="core", analytics_enabled=False, delete_cache=_UPLOADS_SECONDS) as blocks:
        context = Context(blocks, roots, jobs, Sessions(jobs), cookie)
        gr.Markdown("# core: variants of a model")
        with gr.Tabs():
            with gr.Tab("Model", render_children=True):
                source = model.draw(context, named)
            with gr.Tab("Make", render_children=True):
                make.draw(context, source)
            with gr.Tab("Choose", render_children=True):
                choose.draw(context, source)
            with gr.Tab("Try", render_children=True) as trying:
                compare.draw(context, source, trying)
            with gr.Tab("Publish", render_children=True) as publishing:
                publish.draw(context, source, publishing)
        context.fields.wire(blocks, context.session)
    return blocks


def mount(
    blocks: Any, *, host: str, port: int, cookie: str, auth: tuple[str, str] | None
) -> FastAPI:
    """The application that a server runs, with everything of gradio turned off that reports, keeps
    or offers what the page does not need."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, host=host, cookie=cookie, auth=auth)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=_UPLOAD_LIMIT,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=_theme(),
        css=_STYLE.read_text(encoding="utf-8"),
    )
    # Only then does gradio check that a file it is told to read is one that was uploaded; it sets
    # this itself where it runs the server.
    blocks.has_launched = True
    return mounted


def _theme() -> Any:
    """Gradio's own with fonts of this machine, which it would fetch, and contrasts of 4.5 to 1."""
    theme = gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    dim, dim_dark = "*neutral_600", "*neutral_300"
    known = {f"block_{name}_text_color": dim for name in ("info", "label", "title")}
    known |= {f"{name}_dark": dim_dark for name in list(known)}
    return theme.set(
        **known,
        body_text_color_subdued=dim,
        body_text_color_subdued_dark=dim_dark,
        input_placeholder_color=dim,
        input_placeholder_color_dark=dim_dark,
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"core ui: {self._address} (Ctrl-C ends it)", flush=True)


def serve(
    listening: socket.socket, roots: Roots, named: str, host: str, auth: tuple[str, str] | None
) -> None:
    """Serve the page on a socket until interrupted; then cancel what runs."""
    port = listening.getsockname()[1]
    cookie = f"core-ui-{port}"  # cookies are shared by the ports of a host
    jobs = Jobs()
    try:
        app = mount(
            build(roots, named, jobs, cookie), host=host, port=port, cookie=cookie, auth=auth
        )
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1
        )
        shown = f"[{host}]" if ":" in host else host
        _Server(config, f"http://{shown}:{port}/").run(sockets=[listening])
    finally:
        jobs.close()
