"""The OpenAPI document and a page that shows it; neither loads anything from elsewhere.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import msgspec

import core
from core_server.routes import Operation

_REFERENCE = "#/components/schemas/{name}"

_ERRORS = {
    "400": "The body is no JSON.",
    "401": "The key is missing or wrong.",
    "404": "There is no model of this name.",
    "413": "The body is too large, or has too many texts; the message says the limit.",
    "422": "The body is not what the route takes; the message says what is wrong.",
    "424": "The model fails on this request.",
    "429": "Too much waits already; Retry-After says when to come again.",
    "503": "The server is ending, or the model is started again.",
    "504": "There was no result in time.",
}


def document(operations: Sequence[Operation], *, keyed: bool) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        keyed: Whether clients need a key.
    """
    bodies = [operation.body for operation in operations if operation.body is not None]
    schemas, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    schema_of = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        for path in operation.paths:
            entry: dict[str, Any] = {
                "summary": operation.summary,
                "operationId": f"{operation.method.lower()}_{_word(path)}",
                "responses": {"200": {"description": "Done."}},
            }
            if operation.body is not None:
                content: dict[str, Any] = {"schema": schema_of[operation.body]}
                if operation.example is not None:
                    content["example"] = operation.example
                entry["requestBody"] = {"required": True, "content": {"application/json": content}}
                entry["responses"] |= {
                    status: {"description": text} for status, text in _ERRORS.items()
                }
            if "{model:path}" in path:
                entry["parameters"] = [
                    {
                        "name": "model",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string"},
                    }
                ]
            if keyed and not operation.open:
                entry["security"] = [{"key": []}]
            shown = path.replace(":path", "")
            paths.setdefault(shown, {})[operation.method.lower()] = entry
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "core serve", "version": core.__version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if keyed:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return found


def _word(path: str) -> str:
    return "_".join(filter(None, path.replace(":path", "").strip("/").split("/"))) or "root"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>core serve</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }}
summary {{ cursor: pointer; padding: .4rem 0 }}
code, textarea, pre, input {{ font: 14px/1.4 ui-monospace, monospace }}
textarea {{ width: 100%; height: 6rem; box-sizing: border-box }}
pre {{ overflow: auto; max-height: 20rem; background: #8881; padding: .5rem }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .1rem 1rem .1rem 0 }}
details {{ border-top: 1px solid #8886 }} b {{ display: inline-block; width: 3.5rem }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd }} }}
</style></head><body>
<h1>core serve</h1>
<p>The routes of this server, as <a href="openapi.json">OpenAPI</a> {version}.
<label>Key: <input id="key" type="password" autocomplete="off"></label></p>
{operations}
<script>
for (const form of document.forms) form.addEventListener("submit", async (event) => {{
  event.preventDefault();
  const shown = form.querySelector("pre"), area = form.querySelector("textarea");
  const key = document.getElementById("key").value, headers = {{}};
  if (key) headers.Authorization = "Bearer " + key;
  if (area) headers["Content-Type"] = "application/json";
  const path = form.dataset.path.slice(1) || "./";
  try {{
    const answer = await fetch(path, {{
      method: form.dataset.method, headers, body: area ? area.value : undefined }});
    shown.textContent = answer.status + "\\n" + (await answer.text()).slice(0, 20000);
  }} catch (error) {{ shown.textContent = String(error); }}
}});
</script></body></html>
"""


def page(operations: Sequence[Operation]) -> str:
    """An HTML page that lists the routes, with a form for each."""
    return _PAGE.format(
        version="3.1", operations="\n".join(_section(operation) for operation in operations)
    )


def _section(operation: Operation) -> str:
    path = operation.paths[0]
    others = ", ".join(f"<code>{html.escape(one)}</code>" for one in operation.paths[1:])
    others = f"<p>Also at {others}.</p>" if others else ""
    area, fields = "", ""
    if operation.body is not None:
        example = html.escape(json.dumps(dict(operation.example or {})))
        area = f'<textarea spellcheck="false" aria-label="body">{example}</textarea>'
        rows = "".join(
            f"<tr><td><code>{html.escape(field.name)}</code></td>"
            f"<td>{'required' if field.required else 'optional'}</td></tr>"
            for field in msgspec.structs.fields(operation.body)
        )
        fields = f"<table><tr><th>Field</th><th></th></tr>{rows}</table>"
    form = ""
    if "{" not in path:
        form = (
            f'<form data-method="{operation.method}" data-path="{html.escape(path)}">{area}'
            "<button>Send</button><pre></pre></form>"
        )
    return (
        f"<details><summary><b>{operation.method}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation.summary)}</summary>{others}{fields}{form}</details>"
    )
