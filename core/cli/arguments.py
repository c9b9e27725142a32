"""Arguments that several commands share, and how results are printed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from core.errors import OptionError
from core.hub.download import listing_once
from core.machine.stages import announce
from core.options import TASKS, TRUNCATIONS


def add_model(
    parser: argparse.ArgumentParser,
    *,
    backend_required: bool = False,
    file_name: str = "the file to load, where the model has several",
) -> None:
    """MODEL and where to find and run it."""
    parser.add_argument("model", metavar="MODEL", help="a directory, or a name on the Hub")
    parser.add_argument(
        "-b",
        "--backend",
        required=backend_required,
        help="torch, onnx, openvino, ..."
        if backend_required
        else 'torch, onnx, openvino, ...; "tuned" for what `core tune` chose, which a directory '
        "follows anyway where it holds; by default torch if installed",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the backend's choice if absent")
    parser.add_argument("--file-name", help=file_name)
    add_source(parser)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code from the repository run"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Where the model's files come from."""
    parser.add_argument("--revision", help="branch, tag, commit or refs/pr/N on the Hub")
    parser.add_argument("--local-files-only", action="store_true", help="open no connection")


def add_batching(parser: argparse.ArgumentParser, inputs: str, *, prompted: str) -> None:
    """The prompt, how inputs are cut into batches, and what happens to long ones.

    Args:
        inputs: What the model takes: "texts" or "pairs".
        prompted: What the prompt goes in front of.
    """
    parser.add_argument("--prompt", help=f"put in front of {prompted}")
    parser.add_argument("--prompt-name", help="one of the model's prompts")
    parser.add_argument("--batch-size", type=int, help=f"most {inputs} in a batch")
    parser.add_argument("--batch-tokens", type=int, help="most tokens in a batch")
    parser.add_argument("--workers", type=int, help="batches at once")
    parser.add_argument(
        "--truncation",
        choices=TRUNCATIONS,
        help=f"{inputs} longer than the model reads: cut them (the default), or warn, or fail",
    )


def batching_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """What `add_batching` added, as options of `encode`.

    Raises:
        OptionError: A prompt and the name of one.
    """
    if parsed.prompt is not None and parsed.prompt_name is not None:
        raise OptionError("give --prompt or --prompt-name, not both.")
    names = ("prompt_name", "batch_size", "batch_tokens", "workers", "truncation")
    prompt = None if parsed.prompt is None else as_utf8(parsed.prompt)
    return {"prompt": prompt, **{name: getattr(parsed, name) for name in names}}


def as_utf8(text: str) -> str:
    """An argument's bytes read as UTF-8, where the locale's encoding could not read them."""
    if not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text


def add_results(parser: argparse.ArgumentParser, precisions: Sequence[str]) -> None:
    """What is computed of texts, and what becomes of it."""
    parser.add_argument(
        "--task", choices=TASKS, help="what the texts are, for a model that tells them apart"
    )
    parser.add_argument("--normalize", action="store_true", help="scale embeddings to length 1")
    parser.add_argument("--truncate-dim", type=int, help="leading dimensions to keep")
    parser.add_argument("--precision", default="float32", choices=precisions)
    parser.add_argument(
        "--pool-factor",
        type=float,
        help="of a multi-vector model: keep about one vector of a document in so many",
    )
    parser.add_argument(
        "--max-active-dims", type=int, help="of a sparse encoder: the most values of an embedding"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


@listing_once()
def load_model(parsed: argparse.Namespace, kind: str | None = "embedding") -> Any:
    """The function that loads this kind of model, with the arguments of `add_model`.

    Args:
        kind: None for the one the model's files tell.
    """
    import core
    from core.architecture.kinds import KINDS

    announce(f"loading {parsed.model}")
    kind = kind or kind_of(parsed) or "embedding"
    load = getattr(core, KINDS[kind].loader.removeprefix("core."))
    return load(
        parsed.model,
        backend=parsed.backend,
        device=parsed.device,
        file_name=parsed.file_name,
        revision=parsed.revision,
        local_files_only=parsed.local_files_only,
        trust_remote_code=parsed.trust_remote_code,
    )


def kind_of(parsed: argparse.Namespace) -> str | None:
    """The kind that a model's files tell; None where the backend cannot be used."""
    import core
    from core.errors import PluginError
    from core.plugin.registry import registry

    if not registry.names():  # which loading explains, without a connection
        return None
    try:
        return core.kind_of(
            parsed.model,
            backend=parsed.backend,
            revision=parsed.revision,
            local_files_only=parsed.local_files_only,
        )
    except PluginError:  # which loading explains
        return None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Columns padded to the widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def parse_option(text: str) -> tuple[str, Any]:
    """`name=value`, the value read as JSON where it is JSON."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise OptionError(f"--set takes name=value, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def size_of(count: float) -> str:
    """Bytes as people read them: 90.9 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
