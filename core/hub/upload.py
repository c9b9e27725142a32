"""Uploads to the Hugging Face Hub, as a commit or a pull request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import CoreError, ModelError, OptionError
from core.hub.download import offline_reason, quiet_bars
from core.hub.repository import (
    Repository,
    explain,
    hub_constants,
    is_kept_back,
    sent_token,
    status_of,
)

_CREATE = "create"


def open_repository(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    bare: bool = False,
) -> Repository:
    """A repository to write to; opens no connection.

    Args:
        bare: Whether a name without an owner will do.

    Raises:
        OptionError: It cannot be the name of one, or no connection may be opened.
    """
    check_repo_id(repo_id, bare=bare)
    offline = offline_reason(local_files_only=False)
    if offline is not None:
        raise OptionError(f"Nothing can be pushed to {repo_id}: {offline}.")
    return Repository(repo_id, revision or "main", token)


def check_repo_id(repo_id: str, *, bare: bool = False) -> None:
    """Raise `OptionError` for what cannot be the name of a repository.

    Args:
        bare: Whether a name without an owner will do.
    """
    hub_constants()
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    pattern = r"[\w.\-]+(/[\w.\-]+)?" if bare else r"[\w.\-]+/[\w.\-]+"
    if not isinstance(repo_id, str) or not re.fullmatch(pattern, repo_id):
        raise OptionError(f"{repo_id!r} is not the name of a repository: 'owner/name'.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise OptionError(f"{repo_id!r} cannot be a repository's name: {error}") from error


def check_token(repository: Repository) -> None:
    """Raise `ModelError` where there is no token to write with; opens no connection."""
    if sent_token(repository):
        return
    stored, advice = "none is stored", "set $HF_TOKEN, or log in: `hf auth login`"
    if is_kept_back(repository):
        stored = "HF_HUB_DISABLE_IMPLICIT_TOKEN keeps a stored one back"
        advice = "unset that variable"
    raise ModelError(
        f"Cannot push to {repository}: no token was given, and {stored}. Writing needs one with "
        f"write access: {advice}."
    )


def find_repository(
    repo_id: str, *, revision: str | None, token: str | bool | None, exist_ok: bool
) -> Repository:
    """A repository to push a model to, with its owner; creates nothing.

    Raises:
        CoreError: It exists and may not, or the Hub refused; the message says what to do.
    """
    repository = open_repository(repo_id, revision=revision, token=token, bare=True)
    check_token(repository)
    with _explained(repository, "push to"):
        if "/" not in repo_id:
            owner = repository.api.whoami()["name"]
            repository = dataclasses.replace(repository, repo_id=f"{owner}/{repo_id}")
        if not exist_ok and repository.api.repo_exists(repository.repo_id):
            raise _exists(repository)
    return repository


def create_repository(
    repository: Repository, *, private: bool | None, exist_ok: bool
) -> Repository:
    """The repository, created if necessary.

    Raises:
        CoreError: The Hub refused; the message says what to do.
    """
    with _explained(dataclasses.replace(repository, revision="main"), _CREATE):
        created = repository.api.create_repo(repository.repo_id, private=private, exist_ok=exist_ok)
    return dataclasses.replace(repository, repo_id=created.repo_id)


def create_branch(repository: Repository) -> None:
    """Create the branch that its revision names, unless it is there."""
    branch = repository.revision
    if branch != "main" and not branch.startswith("refs/"):
        with _explained(repository, "push to"):
            repository.api.create_branch(repository.repo_id, branch=branch, exist_ok=True)


@contextmanager
def told_of_creation(repository: Repository, *, created: bool) -> Iterator[None]:
    """Say of what fails that the repository was created meanwhile."""
    try:
        yield
    except CoreError as error:
        if not created:
            raise
        raise type(error)(
            f"{str(error).rstrip('.')}. {repository.repo_id} was created meanwhile: push to it "
            "again with exist_ok=True."
        ) from error


def has_file(repository: Repository, name: str) -> bool:
    """Whether the repository has a file of this name."""
    with _explained(repository, "push to"):
        found: bool = repository.api.file_exists(
            repository.repo_id, name, revision=repository.revision
        )
    return found


def upload_folder(
    repository: Repository,
    folder: Path,
    *,
    title: str,
    text: str,
    create_pr: bool = False,
    leave_out: Sequence[str] = (),
) -> str:
    """Upload a directory; returns the URL of the commit or pull request."""
    with _explained(repository, "push to"), quiet_bars():
        commit = repository.api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder,
            revision=repository.revision,
            create_pr=create_pr,
            commit_message=title,
            commit_description=text,
            ignore_patterns=list(leave_out) or None,
        )
    return _url(commit)


def upload_files(
    repository: Repository,
    files: Mapping[str, Path],
    *,
    title: str,
    text: str,
    create_pr: bool = False,
) -> str:
    """Upload files under the names they get there; returns the commit's or pull request's URL."""
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
        for name, path in files.items()
    ]
    with _explained(repository, f"push {next(iter(files))} to"), quiet_bars():
        commit = repository.api.create_commit(
            repo_id=repository.repo_id,
            operations=operations,
            revision=repository.revision,
            commit_message=title,
            commit_description=text,
            create_pr=create_pr,
        )
    return _url(commit)


def next_pull_request(repository: Repository) -> int | None:
    """The number the next pull request gets: discussions and pull requests share one count.

    None where the Hub does not say.
    """
    try:
        discussions = repository.api.get_repo_discussions(repository.repo_id)
        return max((d.num for d in discussions), default=0) + 1
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
        if status == 409 and doing == _CREATE:
            raise _exists(repository) from error
        if status in (401, 403):
            raise ModelError(
                f"Cannot {doing} {repository}: {repository.hub} refused ({status}). Writing "
                "needs a token with write access to it: token=..., $HF_TOKEN, or `hf auth login`; "
                "where you may only read, create_pr=True proposes the change."
            ) from error
        raise explain(error, repository, doing) from error


def _exists(repository: Repository) -> OptionError:
    return OptionError(
        f"{repository.repo_id} exists. Pass exist_ok=True to commit to it, or create_pr=True to "
        "open a pull request."
    )
