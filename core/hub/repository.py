"""A Hub repository's address, and what its failures mean.

huggingface_hub's exceptions differ between its major versions and between its HTTP libraries;
they are told apart by its own classes and by the HTTP status in their chain of causes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.errors import CoreError, ModelError, ModelNotFound, OptionError
from core.machine.surroundings import expand_home
from core.version import __version__

#: What this machine's disk says, and no connection does.
_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip

#: What is done that reads or writes the cache.
_USES_CACHE = ("download", "look for")
#: Where the HTTP client finds other certificates than its own.
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

#: Whose repository a name without an owner means.
DEFAULT_OWNER = "sentence-transformers"


def hub_constants() -> Any:
    """huggingface_hub's constants.

    Raises:
        OptionError: A variable holds what huggingface_hub cannot be imported with: `$HF_ENDPOINT`
            no address, or another no number.
    """
    stated = os.environ.get("HF_ENDPOINT", "")
    try:
        urlsplit(stated).port  # noqa: B018 - read when it is asked for
    except ValueError as error:
        raise OptionError(
            f"HF_ENDPOINT={stated!r} is no address ({error}). Set it to one like "
            "https://hub.example, or leave it out."
        ) from error
    try:
        from huggingface_hub import constants
    except ValueError as error:
        named = [
            f"{name}={value!r}"
            for name, value in sorted(os.environ.items())
            if name.startswith("HF_") and repr(value) in str(error)
        ]
        raise OptionError(
            f"huggingface_hub cannot read {' and '.join(named) or 'its variables'} ({error}). Set "
            "it to a whole number, or leave it out."
        ) from error

    return constants


@dataclass(frozen=True)
class Repository:
    """Which repository, at which revision, and how to reach it."""

    repo_id: str
    revision: str = "main"
    token: str | bool | None = None
    cache_dir: Path | None = None

    def __str__(self) -> str:
        where = "" if self.revision == "main" else f" at revision {self.revision!r}"
        return f"{self.repo_id}{where}"

    @property
    def endpoint(self) -> str:
        """`$HF_ENDPOINT`, else the Hub."""
        # huggingface_hub reads the variable once, when it is imported; later changes count too.
        return str(os.environ.get("HF_ENDPOINT") or hub_constants().ENDPOINT).rstrip("/")

    @property
    def hub(self) -> str:
        """`endpoint` as messages show it: without a user's name and password."""
        return re.sub(r"(?<=://)[^/?#]*@", "", self.endpoint)

    @cached_property
    def cache(self) -> Path:
        """The Hub cache's folder of this repository, from any working directory."""
        root = self.cache_dir or os.environ.get("HF_HUB_CACHE") or hub_constants().HF_HUB_CACHE
        folder = "models--" + self.repo_id.replace("/", "--")
        return expand_home(root, "HF_HOME").absolute() / folder

    @property
    def api(self) -> Any:
        """huggingface_hub's client for it."""
        from huggingface_hub import HfApi

        return HfApi(
            endpoint=self.endpoint,
            token=self.token,
            library_name="core",
            library_version=__version__,
        )

    @property
    def download_command(self) -> str:
        """What fetches it on the command line."""
        revision = "" if self.revision == "main" else f" --revision {self.revision}"
        return f"hf download {self.repo_id}{revision}"


@contextmanager
def explained(repository: Repository, doing: str) -> Iterator[None]:
    """Turn whatever huggingface_hub raises into an error that names the cause and the fix."""
    try:
        yield
    except CoreError:
        raise
    except Exception as error:
        raise explain(error, repository, doing) from error


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, wherever in its chain of causes it is."""
    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def is_broken_connection(error: Exception) -> bool:
    """Whether a transfer broke off, rather than being refused or failing on this machine."""
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    broken = re.search("Chunked|Protocol|Connect|Read|Timeout|Network", kinds) is not None
    return broken and status_of(error) is None


def explain(error: Exception, repository: Repository, doing: str) -> ModelError:
    """The error to raise for one of huggingface_hub's, whichever of its major versions."""
    from huggingface_hub import errors

    status, text = status_of(error), _first_line(error)
    endpoint, did = repository.hub, f"Cannot {doing} {repository}"
    reads = doing == "list" or doing.startswith(_USES_CACHE)
    cached = " Or use what is cached: local_files_only=True." if reads else ""
    if isinstance(error, errors.GatedRepoError):
        return _restricted(repository, did)
    if isinstance(error, errors.RevisionNotFoundError):
        known = _revisions(repository)
        return ModelNotFound(
            f"{repository.repo_id} has no revision {repository.revision!r}. {known}"
        )
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return ModelNotFound(f"{did}: the repository has no such file any more. Load it again.")
    if isinstance(error, errors.HFValidationError):
        return ModelNotFound(f"{repository.repo_id!r} cannot be a repository's name: {text}")
    storage = _other_host(error, endpoint)
    if storage is not None and status is not None and status >= 400:
        return ModelError(
            f"{did}: {storage}, to which {endpoint} leads, answered {status} ({text}). Check "
            f"whether the network or its proxy lets you reach that host, then try again.{cached}"
        )
    if status == 403:
        return _restricted(repository, did)
    if status == 404 and not reads:
        return ModelNotFound(
            f"{did}: {endpoint} has no such repository, or this token may not see it. Check the "
            "name, or create it first."
        )
    if status == 401 or status == 404 or isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(_missing(repository, did, status))
    if status == 429:
        advice = "Wait a little, then try again."
        if reads:
            advice = "Wait a little, pass a token (token=...), or use what is cached: "
            advice += "local_files_only=True."
        return ModelError(f"{did}: {endpoint} refuses more requests for now (429). {advice}")
    if status is not None and status >= 400:
        return ModelError(f"{did}: {endpoint} answered {status} ({text}). Try again later.{cached}")
    # The client takes any JSON for a listing, and fails with what it lacks.
    odd = doing == "list" and isinstance(error, TypeError | KeyError | AttributeError)
    if odd or _is_odd_answer(error):
        return ModelError(
            f"{did}: {endpoint} answered, and not as the Hub does ({text}). Check $HF_ENDPOINT and "
            "whether a proxy or a login page of the network answers in its place, then try "
            f"again.{cached}"
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return ModelError(
            f"{did}: token=True takes the stored login or $HF_TOKEN, and there is neither. Log in: "
            "`hf auth login`, or leave token out."
        )
    if _is_no_header(error):  # whose message would show the token
        return ModelError(
            f"{did}: the token has characters that no token has, such as a line break. Check "
            "token=..., $HF_TOKEN, or log in again: `hf auth login`."
        )
    number = getattr(error, "errno", None)
    if number in _DISK and doing.startswith(_USES_CACHE):
        return ModelError(
            f"{did}: the cache {repository.cache} cannot be written ({os.strerror(int(number))}). "
            "Free space there, or point cache_dir (or $HF_HOME) elsewhere."
        )
    if not (isinstance(error, OSError) or is_broken_connection(error)):
        return ModelError(f"{did}: huggingface_hub failed with {type(error).__name__}: {text}")
    stated = (f"${name}={os.environ[name]!r}" for name in _CERTIFICATES if os.environ.get(name))
    checked = ", ".join(("the network", "the proxy", *(stated if number else ())))
    advice = "try again."
    if reads:
        advice = "try again: finished files are kept. Without one, use what is cached: "
        advice += "local_files_only=True."
    return ModelError(
        f"{did}: the connection to {endpoint} failed ({type(error).__name__}: {text}). Check "
        f"{checked} and $HF_ENDPOINT, then {advice}"
    )


def _restricted(repository: Repository, did: str) -> ModelNotFound:
    return ModelNotFound(
        f"{did}: access is restricted. Ask for it at {repository.hub}/{repository.repo_id} "
        "and pass a token that has it (token=..., $HF_TOKEN, or `hf auth login`)."
        f"{_kept(repository)}"
    )


def _kept(repository: Repository) -> str:
    """What to do where an earlier load left the model in the cache."""
    if not (repository.cache / "snapshots").is_dir():
        return ""
    return " What the cache has of it loads with local_files_only=True."


def _other_host(error: BaseException | None, endpoint: str) -> str | None:
    """The host that refused, where it is one that the Hub leads to."""
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        host = urlsplit(str(getattr(response, "url", None) or "")).netloc.rpartition("@")[2]
        if host and host != urlsplit(endpoint).netloc and not _is_said(response.headers):
            return host
    return None


def _is_said(headers: Mapping[str, str]) -> bool:
    """Whether an answer gives its reasons as the Hub does."""
    return "X-Error-Code" in headers or "X-Error-Message" in headers


def _is_odd_answer(error: BaseException) -> bool:
    """Whether something answered that is no Hub: no JSON, no headers of a file, or in a circle."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    return not names.isdisjoint(("JSONDecodeError", "FileMetadataError", "TooManyRedirects"))


def _is_no_header(error: BaseException) -> bool:
    """Whether the client refuses the header that a token makes; all others are plain."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    refused = "LocalProtocolError" in names and "header" in str(error).lower()
    return refused or not names.isdisjoint(("UnicodeEncodeError", "InvalidHeader"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def sent_token(repository: Repository) -> str | None:
    """The token that the client sends: the one that is given, or the stored one."""
    from huggingface_hub import get_token

    if isinstance(repository.token, str):
        return repository.token
    return None if repository.token is False or is_kept_back(repository) else get_token()


def is_kept_back(repository: Repository) -> bool:
    """Whether a stored token is sent only where that is asked for."""
    return repository.token is None and bool(hub_constants().HF_HUB_DISABLE_IMPLICIT_TOKEN)


def _missing(repository: Repository, did: str, status: int | None) -> str:
    sent = sent_token(repository)
    if status == 401 and sent:
        return (
            f"{did}: {repository.hub} refused the token (401). Check token=..., $HF_TOKEN, or "
            f"log in again: `hf auth login`.{_kept(repository)}"
        )
    who = "this token may not see it" if sent else "it is private and no token was given"
    if is_kept_back(repository):
        who += " (HF_HUB_DISABLE_IMPLICIT_TOKEN keeps a stored one back)"
    bare = repository.repo_id.removeprefix(f"{DEFAULT_OWNER}/")
    hint = ""
    if bare != repository.repo_id:
        hint = f" A name without an owner, like {bare!r}, means {repository.repo_id!r}."
    return (
        f"{did}: {repository.hub} has no such repository, or {who}.{hint} Check the name; for "
        "a private one pass token=..., set $HF_TOKEN, or run `hf auth login`; a local "
        f"model needs an existing directory.{_kept(repository)}"
    )


def _revisions(repository: Repository) -> str:
    try:
        refs = repository.api.list_repo_refs(repository.repo_id)
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
    except Exception:  # it only makes the message better
        return "Check the name of the branch, tag or commit."
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"Its branches and tags: {shown}; a pull request is 'refs/pr/N'."


def _first_line(error: Exception) -> str:
    *_, root = _causes(error)
    said = (getattr(cause, "server_message", None) for cause in _causes(error))
    text = next(filter(None, said), None) or str(root)  # the Hub's own words tell more
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else type(root).__name__
