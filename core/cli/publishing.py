"""`core save` and `core push`: a model or an artifact, where others find it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.cli.arguments import add_json, add_model, load_model, print_json
from core.errors import CoreError

#: The Hub refuses longer texts; a file of more is a mistake.
_MOST_TEXT = 65_536


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "save",
        help="write a model to a directory",
        description="Write a model with the one file that is loaded to a directory of its own.",
    )
    add_model(parser)
    parser.add_argument("target", metavar="DIRECTORY", help="where to")
    add_json(parser)
    parser.set_defaults(core_command=run_save)
    parser = commands.add_parser(
        "push",
        help="upload an artifact to the Hub",
        description="Upload a file that export, optimize or quantize wrote, and its record.",
    )
    parser.add_argument("file", metavar="FILE", help="such as minilm/onnx/model_O3.onnx")
    parser.add_argument("repo", metavar="REPOSITORY", help="owner/name")
    parser.add_argument("--create-pr", action="store_true", help="as a pull request")
    parser.add_argument(
        "--text", metavar="FILE", help="body of the commit or pull request, instead of the record"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be uploaded; open no connection"
    )
    add_json(parser)
    parser.set_defaults(core_command=run_push)


def run_save(parsed: argparse.Namespace) -> None:
    """`core.save`."""
    import core

    with load_model(parsed, None) as model:
        saved = core.save(model, parsed.target)
        if parsed.json:
            print_json({"directory": str(saved), "backend": model.backend})
        else:
            print(saved)


def run_push(parsed: argparse.Namespace) -> None:
    """`core.push`, or what it would do."""
    import core

    text = None if parsed.text is None else _read_text(Path(parsed.text))
    if parsed.dry_run:
        _show(parsed, text)
        return
    artifact = core.push(parsed.file, parsed.repo, create_pr=parsed.create_pr, text=text)
    if parsed.json:
        print_json({"file": str(artifact.path), "backend": artifact.backend, "url": artifact.url})
    else:
        print(artifact.url)


def _show(parsed: argparse.Namespace, text: str | None) -> None:
    from core.artifacts.push import artifact_text, artifact_title, files_to_push
    from core.artifacts.recorded import read_artifact
    from core.hub.upload import check_repo_id

    check_repo_id(parsed.repo)
    artifact = read_artifact(parsed.file)
    title, names = artifact_title(artifact), files_to_push(artifact)
    if text is None:
        text = artifact_text(artifact, parsed.repo, None if parsed.create_pr else 0)
    if parsed.json:
        print_json({"repository": parsed.repo, "title": title, "text": text, "files": names})
        return
    print(f"To {parsed.repo}: {', '.join(names)}\n\n{title}\n\n{text}")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_TEXT + 1)
        text = content.decode()
    except (OSError, UnicodeError) as error:
        raise CoreError(f"Cannot read {str(path)!r}: {error}.") from error
    if len(content) > _MOST_TEXT:
        raise CoreError(f"{str(path)!r} has more than {_MOST_TEXT:,} bytes.")
    return text
