"""`core backends` and `core info`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.cli.arguments import add_json, add_source, print_json, print_table, size_of

if TYPE_CHECKING:
    from core.operations.inspection import FoundArtifact, FoundChoice, ModelInfo


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "backends",
        help="list backends",
        description="List every backend and every plugin, and whether it works.",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="where each is from, and what it can"
    )
    add_json(parser)
    parser.set_defaults(core_command=show_backends)
    parser = commands.add_parser(
        "info", help="describe a model", description="Describe a model without loading weights."
    )
    parser.add_argument("model", metavar="MODEL", help="a directory, or a name on the Hub")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(core_command=show_info)


def show_backends(parsed: argparse.Namespace) -> None:
    """Name, status, distribution, operations."""
    import core
    from core.cli.plugins import describe
    from core.plugin.known_backends import install_hint
    from core.plugin.status import status_table

    statuses = core.backends()
    if parsed.json:
        report = {name: asdict(status) for name, status in statuses.items()}
        if parsed.verbose:
            around = {name: asdict(status) for name, status in core.plugins().items()}
            print_json({"backends": report, "plugins": around})
        else:
            print_json(report)
    elif parsed.verbose and (statuses or core.plugins()):
        print(describe(statuses, core.plugins()))
    else:
        head = ("STATUS", "DISTRIBUTION", "OPERATIONS")
        if statuses:
            print_table([("BACKEND", *head), *status_table(statuses)])
        else:
            print(f"No backend is installed. {install_hint()}")
        plugins = core.plugins()
        if plugins:
            print()
            print_table([("PLUGIN", *head), *status_table(plugins)])


def show_info(parsed: argparse.Namespace) -> None:
    """What a model consists of, and which files each backend finds."""
    from core.checkpoint.resolve import resolve
    from core.operations.inspection import inspect_model

    source = resolve(
        parsed.model, revision=parsed.revision, local_files_only=parsed.local_files_only
    )
    info = inspect_model(source)
    if parsed.json:
        print_json(info.as_dict())
        return
    print(render(info))
    rows = artifact_rows(info)
    if len(rows) > 1:
        print()
        print_table(rows)
        print("* what the backend loads unless told otherwise")
    else:
        print(f"\n{_nothing_to_load(source.names)}")
    if info.tuned is not None:
        print(f"\n{render_choice(info.tuned)}")


def _nothing_to_load(names: Sequence[str]) -> str:
    """Why no backend finds a file, and what to install for those that are there."""
    from core.plugin.known_backends import INSTALL_COMMANDS, install_hint
    from core.plugin.registry import registry

    installed = registry.names()
    if not installed:
        return f"No backend is installed. {install_hint()}"
    # By their endings alone: the backends that know more are not installed.
    endings = {"torch": (".safetensors", ".bin"), "onnx": (".onnx",), "openvino": (".xml",)}
    missing = [
        f"`{INSTALL_COMMANDS[backend]}`"
        for backend, ending in endings.items()
        if backend not in installed and any(name.endswith(ending) for name in names)
    ]
    found = f"No installed backend ({', '.join(installed)}) finds a file it can load."
    return f"{found} For the files there are: {' or '.join(missing)}." if missing else found


def render(info: ModelInfo) -> str:
    """A few lines for people."""
    rows: list[tuple[str, Any]] = [
        ("model", info.model),
        ("commit", info.commit),
        ("kind", _kind(info.kind)),
        ("modules", " > ".join(info.modules)),
        ("outputs", ", ".join(info.outputs) if len(info.outputs) > 1 else None),
        ("dimension", info.dimension),
        ("longest text", f"{info.max_seq_length} tokens" if info.max_seq_length else "no limit"),
        ("longest query", None if info.query_length is None else f"{info.query_length} tokens"),
        (
            "longest document",
            None if info.document_length is None else f"{info.document_length} tokens",
        ),
        ("labels", None if info.labels is None else ", ".join(info.labels)),
        ("activation", info.activation),
        ("similarity", info.similarity if info.labels is None else None),
        ("truncated to", info.truncate_dim),
        ("most values", info.max_active_dims),
    ]
    for name, prompt in info.prompts.items():
        mark = " (default)" if name == info.default_prompt_name else ""
        rows.append((f"prompt {name}{mark}", json.dumps(prompt, ensure_ascii=False)))
    lines = [f"{title:16} {value}" for title, value in rows if value is not None]
    return "\n".join(lines)


#: Figures shown first, where they were measured: name to title and form.
_FIGURES = {
    "texts_per_second": "{:,.1f} texts a second",
    "p50_ms": "median {:.1f} ms a text",
    "p99_ms": "99th percentile {:.1f} ms",
    "mean_cosine": "mean cosine {:.4f}",
    "recall_at_10": "recall@10 {:.4f}",
    "quality": "quality {:.4f}",
}


def render_choice(choice: FoundChoice) -> str:
    """What `core tune` chose, its main figures, and whether it is followed."""
    lines = []
    if choice.backend is not None:
        options = f" with {json.dumps(choice.options)}" if choice.options else ""
        file = f" {choice.file_name}" if choice.file_name else ""
        lines.append(
            f"tuned for {choice.objective} on {choice.tuned_at}: {choice.backend}{file} on "
            f"{choice.device}{options}"
        )
        figures = [
            form.format(value)
            for name, form in _FIGURES.items()
            if isinstance(value := choice.measured.get(name), int | float)
        ]
        if figures:
            lines.append(f"measured: {', '.join(figures)}")
    if choice.fits:
        lines.append("It holds here: core.load without a backend follows it.")
    else:
        lines.append(f"Not followed here. {choice.why}")
    return "\n".join(lines)


def _kind(kind: str) -> str:
    """What it is, and which function loads it."""
    from core.architecture.kinds import KINDS

    _, _, noun = KINDS[kind].noun.partition(" ")
    return f"{noun} ({KINDS[kind].loader})"


def artifact_rows(info: ModelInfo) -> list[tuple[str, ...]]:
    """A table of the artifacts, its header first; the default of each backend has a star."""
    rows: list[tuple[str, ...]] = [("BACKEND", "FILE", "SIZE", "PRECISION", "DRIFT")]
    for found in info.artifacts:
        rows.append(
            (
                found.backend,
                found.file + (" *" if found.default else ""),
                "?" if found.size is None else size_of(found.size),
                found.precision or "?",
                _drift(found),
            )
        )
    return rows


def _drift(found: FoundArtifact) -> str:
    if found.made_from_other is not None:
        return f"made from another {found.made_from_other}"
    verification = found.verification
    if verification is None:
        return "-"
    differs, ranks = (verification.get(n) for n in ("max_score_difference", "rank_correlation"))
    if isinstance(differs, float | int) and isinstance(ranks, float | int):
        return f"score difference at most {differs:.6f}, rank correlation {ranks:.4f}"
    mean, least = verification.get("mean_overlap"), verification.get("min_overlap")
    if isinstance(mean, float | int) and isinstance(least, float | int):
        return f"overlap of dimensions mean {mean:.4f}, minimum {least:.4f}"
    mean, least = verification.get("mean_cosine"), verification.get("min_cosine")
    if not isinstance(mean, float | int) or not isinstance(least, float | int):
        return "-"
    others = "".join(
        f"; {title} {value:.6f}"
        for title, name in (("sparse", "sparse"), ("multi-vector", "multi_vector"))
        if isinstance(value := verification.get(f"{name}_mean_cosine"), float | int)
    )
    return f"cosine mean {mean:.6f}, minimum {least:.6f}{others}"
