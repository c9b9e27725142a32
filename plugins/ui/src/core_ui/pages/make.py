"""Make: export, optimize or quantize; and the proof of what was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

import core
from core.errors import OptionError
from core_ui import markup, snippets
from core_ui.jobs import Job
from core_ui.pages.fields import PRIVATE
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
from core_ui.similarities import check_count, compare_steps, similarities_of

_OPERATIONS = ("quantize", "optimize", "export")
_TEXTS = "texts.txt"
_CALIBRATION = "calibration.txt"
_MOST_NEIGHBOURS = 200


def operations(backend: str) -> list[str]:
    """What a backend can make, from what it states."""
    if not backend:
        return []
    hooks = core.hooks(backend)
    if hooks.capabilities.source != "checkpoint":  # a server's models are not files
        return []
    found = [name for name in _OPERATIONS[:2] if configurations(backend, name)]
    if "export" in hooks.implemented and hooks.capabilities.exports_from is not None:
        found.append("export")
    return found


def configurations(backend: str, operation: str) -> Mapping[str, str]:
    """Each with the line that explains it, the backend's default first."""
    if operation not in ("optimize", "quantize"):
        return {}
    capabilities = core.hooks(backend).capabilities
    if operation == "optimize":
        return capabilities.optimize_configs
    return capabilities.quantize_configs


def working_backends() -> list[str]:
    """Those that can make something; one that needs no other library to serve comes first."""
    found = [name for name, status in core.backends().items() if status.status == "ok"]
    able = [name for name in found if operations(name)]
    return sorted(able, key=lambda name: "quantize" not in operations(name) or name == "torch")


def draw(context: Context, source: Source) -> None:
    """Draw the page."""
    backends = working_backends()
    first = backends[0] if backends else None
    able = operations(first or "")
    begun = able[0] if able else None
    choices = _choices(first, begun)
    with gr.Row():
        backend = gr.Radio(backends, value=first, label="Backend", elem_id="make-backend")
        operation = gr.Radio(able, value=begun, label="Operation", elem_id="make-operation")
    config = gr.Radio(
        choices,
        value=choices[0][1] if choices else None,
        label="Configuration",
        elem_id="make-config",
        visible=bool(choices),
    )
    with gr.Group(visible=False) as calibration:
        pasted = gr.Textbox(
            "",
            label="Calibration texts, one a line",
            info="Some dozens like those you will embed; a built-in set if empty",
            lines=4,
            elem_id="make-calibration",
        )
        upload_into(pasted)
    target = gr.Textbox(
        "",
        label="Target directory",
        info="Beside the model's name if empty: NAME-BACKEND-CONFIGURATION",
        elem_id="make-target",
    )
    panel = Panel(context, "make", "Make it")
    proof = gr.HTML("", elem_id="make-proof")
    with gr.Group(visible=False) as neighbourhood:
        texts = gr.Textbox(
            "",
            label=f"Your own texts, one a line (2 to {_MOST_NEIGHBOURS})",
            info="Each text's nearest neighbour among the others, by the source and by the result",
            lines=5,
            elem_id="make-texts",
        )
        near = Panel(context, "neighbours", "Compare neighbours")
        neighbours = gr.HTML("", elem_id="make-neighbours")
        near_code = gr.HTML("", elem_id="make-neighbours-code")
    code = gr.HTML("", elem_id="make-code")

    def offer_operations(backend: str) -> list[Any]:
        found = operations(backend)
        value = found[0] if found else None
        return [gr.Radio(choices=found, value=value), *offer_configs(backend, value)]

    def offer_configs(backend: str, operation: str | None) -> list[Any]:
        found = _choices(backend, operation)
        value = found[0][1] if found else None
        return [
            gr.Radio(choices=found, value=value, visible=bool(found)),
            offer_calibration(backend, operation, value),
        ]

    def offer_calibration(backend: str | None, operation: str | None, config: str | None) -> Any:
        return gr.Group(visible=_is_calibrated(backend, operation, config))

    def restore(kept: Mapping[str, Any]) -> list[Any]:
        chosen = _one_of(backends, kept.get("make-backend"))
        able = operations(chosen or "")
        doing = _one_of(able, kept.get("make-operation"))
        found = _choices(chosen, doing)
        value = _one_of([name for _, name in found], kept.get("make-config"))
        return [
            chosen,
            gr.Radio(choices=able, value=doing),
            gr.Radio(choices=found, value=value, visible=bool(found)),
            offer_calibration(chosen, doing, value),
        ]

    backend.input(offer_operations, backend, [operation, config, calibration], **PRIVATE)
    operation.input(offer_configs, [backend, operation], [config, calibration], **PRIVATE)
    config.input(offer_calibration, [backend, operation, config], calibration, **PRIVATE)
    context.fields.note(backend, operation, config)
    context.fields.restore([backend, operation, config, calibration], restore)
    context.fields.keep(pasted, target, texts)

    def plan(
        session: Session, model: str, revision: str, token: str, backend: str | None,
        operation: str | None, config: str | None, pasted: str, target: str,
    ) -> Plan:  # fmt: skip
        if not backend or not operation:
            raise OptionError("No installed backend makes anything: pip install core[torch,onnx].")
        place = context.roots.model(model)
        config = config if operation != "export" else None
        goal = context.roots.target(
            target.strip() or default_target(place, backend, config or operation)
        )
        lines = lines_of(pasted) if _is_calibrated(backend, operation, config) else []
        kind = session.kind_of(place)
        made_of = Variant(place, revision.strip(), backend, kind=kind)

        def steps(folder: Path) -> list[list[str]]:
            words = [operation, place, "--backend", backend, "--target", goal]
            words += [*revision_words(revision), *(["--config", config] if config else [])]
            words += ["--calibration", str(folder / _CALIBRATION)] if lines else []
            return [[*words, "--measure", "--json"]]

        given = _CALIBRATION if lines else ""
        return Plan(
            steps,
            snippets.make(operation, made_of, config, goal, given),
            texts={_CALIBRATION: "\n".join(lines) + "\n"} if lines else {},
            token=token.strip(),
            notes={"source": made_of, "target": goal, "kind": kind},
        )

    def show(session: Session, job: Job | None) -> list[Any]:
        if job is None:
            return ["", gr.Group(visible=False)]
        (result,) = job.results()
        made = made_variant(job, result)
        session.note_made(made)
        return [_proof(made, result), gr.Group(visible=True)]

    def plan_neighbours(session: Session, texts: str) -> Plan:
        job = session.jobs.get("make")
        if job is None or job.state != "done":
            raise OptionError("Make a variant first.")
        pair = (source_variant(job), made_variant(job, job.results()[0]))
        lines = lines_of(texts)
        check_count(lines, pair, _MOST_NEIGHBOURS)
        return Plan(
            lambda folder: compare_steps(pair, folder, _TEXTS),
            snippets.compare(pair, _TEXTS),
            texts={_TEXTS: "\n".join(lines) + "\n"},
            notes={"texts": lines},
        )

    def show_neighbours(session: Session, job: Job | None) -> list[Any]:
        if job is None:
            return [""]
        source, result = similarities_of(job)
        names = ("Nearest by the source", "By the result")
        return [markup.neighbours(job.notes["texts"], names, source, result)]

    inputs = [*source.fields, backend, operation, config, pasted, target]
    panel.wire(inputs, plan, [proof, neighbourhood], show, code)
    near.wire([texts], plan_neighbours, [neighbours], show_neighbours, near_code)


def _choices(backend: str | None, operation: str | None) -> list[tuple[str, str]]:
    if backend is None or operation is None:
        return []
    found = configurations(backend, operation)
    return [(f"{name}: {text}", name) for name, text in found.items()]


def _one_of(choices: Sequence[str], kept: str | None) -> str | None:
    """What was chosen, if it is still offered; else the first."""
    return kept if kept in choices else next(iter(choices), None)


def _is_calibrated(backend: str | None, operation: str | None, config: str | None) -> bool:
    """Whether it takes texts."""
    if backend is None or operation != "quantize":
        return False
    return config in core.hooks(backend).capabilities.calibrated_configs


def default_target(model: str, backend: str, config: str) -> str:
    """A new directory, named by what it will hold."""
    return f"{Path(model.rstrip('/')).name}-{backend}-{config}"


def source_variant(job: Job) -> Variant:
    """What a job made its artifact of: the model, on a backend that can run it as it is."""
    source: Variant = job.notes["source"]
    origin = core.hooks(source.backend).capabilities.exports_from
    words = job.steps[0]
    if words[0] == "export" and origin is not None:
        return Variant(source.model, source.revision, origin, kind=source.kind)
    return source


def made_variant(job: Job, result: Mapping[str, Any]) -> Variant:
    """What a job wrote."""
    target = job.notes["target"]
    name = Path(result["file"]).relative_to(target).as_posix()
    return Variant(target, "", result["backend"], name, is_artifact=True, kind=job.notes["kind"])


def _proof(made: Variant, result: Mapping[str, Any]) -> str:
    found = result["verification"]
    facts = {
        "File": result["file"],
        "Size": f"{markup.size(result['bytes'])}, {result['precision']}",
        "Agreement with its source": markup.verification(found),
    }
    if found:
        probes = "pairs" if made.kind == "reranker" else "texts"
        facts["Verified on"] = f"{found['texts']} probe {probes} of many lengths"
    if result["speed_ratio"]:
        facts["Speed"] = (
            f"{result['speed_ratio']:.2f} times its source's, measured here just now "
            f"(rounds differ by {result['speed_spread']:.0%})"
        )
    return markup.facts(f"Proof: {made.label}", facts)
