"""`core backends` and `core info`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from core.cli.arguments import add_json, add_source, print_json, print_table, size_of


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "backends", help="list backends", description="List every backend and whether it works."
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="where each is from, and what it can"
    )
    add_json(parser)
    parser.set_defaults(command=show_backends)
    parser = commands.add_parser(
        "info", help="describe a model", description="Describe a model without loading weights."
    )
    parser.add_argument("model", metavar="MODEL", help="a directory, or a name on the Hub")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(command=show_info)


def show_backends(parsed: argparse.Namespace) -> None:
    """Name, status, distribution, operations."""
    import core
    from core.cli.plugins import describe
    from core.registry import install_hint, status_table

    statuses = core.backends()
    if parsed.json:
        report = {name: asdict(status) for name, status in statuses.items()}
        if parsed.verbose:
            plugins = {name: asdict(status) for name, status in core.plugins().items()}
            print_json({"backends": report, "plugins": plugins})
        else:
            print_json(report)
    elif parsed.verbose and (statuses or core.plugins()):
        print(describe(statuses, core.plugins()))
    elif not statuses:
        print(f"No backend is installed. {install_hint()}")
    else:
        print_table([("BACKEND", "STATUS", "DISTRIBUTION", "OPERATIONS"), *status_table(statuses)])


def show_info(parsed: argparse.Namespace) -> None:
    """What a model consists of, and which files each backend finds."""
    from core.artifacts import find_artifacts
    from core.checkpoint import resolve
    from core.errors import CoreError
    from core.operations import hooks
    from core.registry import registry

    source = resolve(
        parsed.model, revision=parsed.revision, local_files_only=parsed.local_files_only
    )
    architecture = source.architecture
    artifacts: dict[str, list[str]] = {}
    for name in registry.names():
        try:
            capabilities = hooks(name).capabilities
        except CoreError:
            continue  # `core backends` tells what is wrong with it
        artifacts[name] = find_artifacts(source.names, capabilities, architecture.path)
    first = "StaticEmbedding" if architecture.is_static else "Transformer"
    info = {
        "model": source.name,
        "commit": source.commit,
        "architecture": architecture.model_type or None,
        "modules": [first, *(type(module).__name__ for module in architecture.modules)],
        "dimension": architecture.dimension,
        "max_seq_length": architecture.max_seq_length,
        "similarity": architecture.similarity_fn_name,
        "prompts": dict(architecture.prompts),
        "default_prompt_name": architecture.default_prompt_name,
        "artifacts": artifacts,
    }
    if parsed.json:
        print_json(info)
        return
    for key, value in info.items():
        if key == "artifacts":
            continue
        shown = " > ".join(value) if isinstance(value, list) else value
        print(f"{key.replace('_', ' '):20} {shown if shown not in (None, {}) else '-'}")
    for name, files in artifacts.items():
        for file in files:
            print(f"{name + ' file':20} {file}  {size_of(source.path(file).stat().st_size)}")
