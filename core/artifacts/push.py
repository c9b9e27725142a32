"""Artifacts on the Hugging Face Hub, as a commit or a pull request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from core.architecture.kinds import EMBEDDING, KINDS, MULTI_VECTOR, RERANKER, SPARSE
from core.arguments import check_flag, check_text_or_flag
from core.artifacts.artifact import SIDECAR_SUFFIX, Artifact, Verification
from core.checkpoint.checkpoint import Checkpoint
from core.errors import CoreError, OptionError
from core.files.files import Files
from core.hub.download import HubFiles
from core.hub.upload import check_token, next_pull_request, open_repository, upload_files


def check_push(source: Checkpoint, push_to_hub: bool | str, create_pr: bool) -> None:
    """Refuse before the work of making an artifact, not after.

    Raises:
        OptionError: Nothing says where to push, or a switch is neither True nor False.
        ModelError: There is no token to push with.
    """
    check_text_or_flag("push_to_hub", push_to_hub)
    check_flag("create_pr", create_pr)
    if push_to_hub:
        repo_id = check_push_target(source, push_to_hub)
        check_token(open_repository(repo_id, token=_token_for(source, repo_id)))
    elif create_pr:
        raise OptionError("create_pr=True uploads: pass push_to_hub=True or a repository too.")


def pushed(
    artifact: Artifact, source: Checkpoint, push_to_hub: bool | str, create_pr: bool
) -> Artifact:
    """The artifact, uploaded where that was asked for."""
    if not push_to_hub:
        return artifact
    return push_artifact(artifact, source, push_to_hub, create_pr=create_pr)


def check_push_target(source: Checkpoint, push_to_hub: bool | str) -> str:
    """The repository an artifact goes to, before the work of making it.

    Raises:
        OptionError: The model is a directory and no repository is named.
    """
    if isinstance(push_to_hub, str):
        return open_repository(push_to_hub).repo_id
    if source.repo_id is None:
        raise OptionError(
            f"push_to_hub=True uploads to the model's own repository, and {source} is a "
            "directory. Name the repository: push_to_hub='owner/name'."
        )
    return source.repo_id


def push_artifact(
    artifact: Artifact,
    source: Checkpoint,
    push_to_hub: bool | str,
    *,
    create_pr: bool = False,
) -> Artifact:
    """Upload an artifact's files and its sidecar, nothing else; returns it with its `url`.

    Args:
        source: What it was made from; its repository and token, where True names no other.

    Raises:
        CoreError: The Hub refused. The artifact is on the disk anyway.
    """
    repo_id = check_push_target(source, push_to_hub)
    repository = open_repository(repo_id, token=_token_for(source, repo_id))
    names = [*artifact.all_files, artifact.file_name + SIDECAR_SUFFIX]
    files = {name: artifact.root / name for name in names if (artifact.root / name).is_file()}
    expected = next_pull_request(repository) if create_pr else 0
    try:
        url = upload_files(
            repository,
            files,
            title=_title(artifact),
            text=artifact_text(artifact, repo_id, expected),
            create_pr=create_pr,
        )
    except CoreError as error:
        raise type(error)(f"{error} The artifact itself is finished: {artifact.path}") from error
    return dataclasses.replace(artifact, url=url)


def artifact_text(artifact: Artifact, repo_id: str, pull_request: int | None) -> str:
    """The body of a commit (`pull_request` 0) or pull request (None: its number is not known)."""
    revision = "" if pull_request == 0 else f', revision="refs/pr/{pull_request or "N"}"'
    config = json.dumps(dict(artifact.config), indent=2, ensure_ascii=False, default=str)
    versions = ", ".join(f"{name} {version}" for name, version in artifact.versions.items())
    lines = [
        f"`{artifact.file_name}`: {artifact.operation} with the {artifact.backend} backend of "
        f"core, precision {artifact.precision}.",
        f"Configuration:\n```json\n{config}\n```",
        f"Made with: {versions or 'core'}.",
    ]
    found = artifact.verification
    if found is not None:
        largest = ""
        if isinstance(found, Verification):
            largest = f"; largest difference of a component {found.max_abs_difference:.2e}"
        lines.append(
            "Verified against the model it was made from, on probe texts of many lengths: "
            f"{found}{largest}."
        )
    if pull_request is None:
        lines.append("N is the number of this pull request.")
    lines.append(
        "Try it:\n```python\nimport core\n\n"
        f'model = {KINDS[artifact.kind].loader}("{repo_id}", backend="{artifact.backend}", '
        f'file_name="{artifact.file_name}"{revision})\n'
        f"print({_EXAMPLES[artifact.kind]})\n```"
    )
    return "\n\n".join(lines)


#: A first use of each kind of model.
_EXAMPLES: Mapping[str, str] = {
    EMBEDDING: 'model.encode(["one text", "another"]).shape',
    RERANKER: 'model.predict([("a question", "an answer")])',
    SPARSE: 'model.decode(model.encode("one text"), top_k=5)',
    MULTI_VECTOR: 'model.encode_query("a question").shape',
}


def _title(artifact: Artifact) -> str:
    verb = {"export": "Export", "optimize": "Optimize", "quantize": "Quantize"}
    return f"{verb.get(artifact.operation, 'Add')}: add {artifact.file_name}"


def _token_for(source: Checkpoint, repo_id: str) -> str | bool | None:
    """The token a model was loaded with belongs to its own repository alone."""
    return _token_of(source.files) if repo_id == source.repo_id else None


def _token_of(files: Files) -> str | bool | None:
    while not isinstance(files, HubFiles):
        behind = getattr(files, "behind", None)
        if behind is None:
            return None
        files = behind
    return files.repository.token
