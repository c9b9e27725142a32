"""Uploads to the Hugging Face Hub: a whole model, or one artifact, as a commit or pull request."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.artifact import SIDECAR_SUFFIX, Artifact
from core.errors import CoreError, ModelError, OptionError
from core.hub import HubFiles, offline_reason, quiet_bars
from core.model_card import model_card
from core.repository import Repository, explain, status_of

if TYPE_CHECKING:
    from core.checkpoint import Checkpoint, Files
    from core.model import EmbeddingModel


def push_model(
    model: EmbeddingModel,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    exist_ok: bool = False,
    replace_model_card: bool = False,
) -> str:
    """Upload what `model.save` writes; returns the URL of the commit or pull request.

    A README.md the repository has stays as it is, unless `replace_model_card`.

    Args:
        repo_id: `owner/name`; `name` alone belongs to the token's owner. It is created if need be.
        private: Of a repository that is created; None for the owner's default.
        revision: The branch, created if need be; None for main.
        create_pr: Open a pull request instead of committing.
        exist_ok: Commit to a repository that exists. A pull request never needs it.

    Raises:
        CoreError: The Hub refused; the message says what to do.
    """
    repository = _repository(repo_id, revision, token)
    api = repository.api
    with _explained(repository, "push to"):
        created = api.create_repo(
            repository.repo_id, private=private, exist_ok=exist_ok or create_pr
        )
        repository = dataclasses.replace(repository, repo_id=created.repo_id)
        if revision is not None and not revision.startswith("refs/") and not create_pr:
            api.create_branch(repository.repo_id, branch=revision, exist_ok=True)
        has_card = not replace_model_card and api.file_exists(
            repository.repo_id, "README.md", revision=revision
        )
    with tempfile.TemporaryDirectory(prefix="core-push-") as folder:
        tree = Path(folder) / "model"
        _stage(model, tree, repository.repo_id)
        title = commit_message or f"Add a sentence embedding model ({model.backend} backend)"
        with _explained(repository, "push to"), quiet_bars():
            commit = api.upload_folder(
                repo_id=repository.repo_id,
                folder_path=tree,
                revision=revision,
                create_pr=create_pr,
                commit_message=title,
                commit_description=_model_text(model),
                ignore_patterns=["README.md"] if has_card else None,
            )
    return _url(commit)


def check_push_target(source: Checkpoint, push_to_hub: bool | str) -> str:
    """The repository an artifact goes to, before the work of making it.

    Raises:
        OptionError: The model is a directory and no repository is named.
    """
    if isinstance(push_to_hub, str):
        return _repository(push_to_hub, None, None).repo_id
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
        CoreError: The Hub refused. The artifact is on the disk all the same.
    """
    from huggingface_hub import CommitOperationAdd

    repo_id = check_push_target(source, push_to_hub)
    token = _token_of(source.files) if repo_id == source.repo_id else None
    repository = _repository(repo_id, None, token)
    api = repository.api
    names = [*artifact.all_files, artifact.file_name + SIDECAR_SUFFIX]
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(artifact.root / name))
        for name in names
        if (artifact.root / name).is_file()
    ]
    expected = _next_number(api, repo_id) if create_pr else None
    try:
        with _explained(repository, f"push {artifact.file_name} to"), quiet_bars():
            commit = api.create_commit(
                repo_id=repo_id,
                operations=operations,
                commit_message=_title(artifact),
                commit_description=artifact_text(artifact, repo_id, expected if create_pr else 0),
                create_pr=create_pr,
            )
    except CoreError as error:
        raise type(error)(f"{error} The artifact itself is finished: {artifact.path}") from error
    return dataclasses.replace(artifact, url=_url(commit))


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
        lines.append(
            "Verified against the model it was made from, on probe texts of many lengths: "
            f"{found}; largest difference of a component {found.max_abs_difference:.2e}."
        )
    if pull_request is None:
        lines.append("N is the number of this pull request.")
    lines.append(
        "Try it:\n```python\nimport core\n\n"
        f'model = core.load("{repo_id}", backend="{artifact.backend}", '
        f'file_name="{artifact.file_name}"{revision})\n'
        'print(model.encode(["one text", "another"]).shape)\n```'
    )
    return "\n\n".join(lines)


def _title(artifact: Artifact) -> str:
    verb = {"export": "Export", "optimize": "Optimize", "quantize": "Quantize"}
    return f"{verb.get(artifact.operation, 'Add')}: add {artifact.file_name}"


def _model_text(model: EmbeddingModel) -> str:
    return (
        f"Saved with core from {model.source}: {model.backend} backend, dimension "
        f"{model.dimension}, {model.dtype}. It loads with core and with sentence-transformers 5 "
        "and 6."
    )


def _stage(model: EmbeddingModel, tree: Path, repo_id: str) -> None:
    model.hooks.save(model, tree)
    if "README.md" not in model.source.names:
        (tree / "README.md").write_text(model_card(model, repo_id), encoding="utf-8")


def _repository(repo_id: str, revision: str | None, token: str | bool | None) -> Repository:
    if not isinstance(repo_id, str) or not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", repo_id):
        raise OptionError(f"{repo_id!r} is not the name of a repository: 'owner/name'.")
    offline = offline_reason(local_files_only=False)
    if offline is not None:
        raise OptionError(f"Nothing can be pushed to {repo_id}: {offline}.")
    return Repository(repo_id, revision or "main", token)


def _token_of(files: Files) -> str | bool | None:
    while not isinstance(files, HubFiles):
        behind = getattr(files, "behind", None)
        if behind is None:
            return None
        files = behind
    return files.repository.token


def _next_number(api: Any, repo_id: str) -> int | None:
    """The number the next pull request gets: discussions and pull requests share one count."""
    try:
        return max((d.num for d in api.get_repo_discussions(repo_id)), default=0) + 1
    except Exception:  # it only makes the text better
        return None


def _url(commit: Any) -> str:
    return str(getattr(commit, "pr_url", None) or commit.commit_url)


@contextmanager
def _explained(repository: Repository, doing: str) -> Iterator[None]:
    try:
        yield
    except CoreError:
        raise
    except Exception as error:
        status = status_of(error)
        if status == 409:
            raise OptionError(
                f"{repository.repo_id} exists. Pass exist_ok=True to commit to it, or "
                "create_pr=True to open a pull request."
            ) from error
        if status in (401, 403):
            raise ModelError(
                f"Cannot {doing} {repository}: {repository.endpoint} refused ({status}). Writing "
                "needs a token with write access to it: token=..., $HF_TOKEN, or `hf auth login`; "
                "where you may only read, create_pr=True proposes the change."
            ) from error
        raise explain(error, repository, doing) from error
