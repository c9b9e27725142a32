"""The files of a Hub repository: one listing, one commit, lazy downloads.

The cache is huggingface_hub's own (https://huggingface.co/docs/huggingface_hub/guides/manage-cache),
so what other tools downloaded is found here and the other way round. Beside its `snapshots` the
repository's listing is kept in `.core/<commit>.json`: offline, it tells a file that was never
downloaded from one that the repository does not have.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from core.errors import ModelError, ModelFormatError, ModelNotFound
from core.files.files import Files
from core.files.paths import check_readable
from core.files.weights import check_safetensors
from core.hub.repository import (
    DEFAULT_OWNER,
    Repository,
    explained,
    hub_constants,
    is_broken_connection,
    status_of,
)
from core.machine.process_wide import process_wide
from core.machine.surroundings import expand_home, stderr_is_terminal
from core.version import __version__

logger = logging.getLogger("core")

#: Seconds before asking again when the Hub is busy or out of order.
RETRY_DELAYS = (0.5, 1.5)

_RETRIED_STATUS = (429, 500, 502, 503, 504)

_LISTING_TIMEOUT = 15.0
#: Where the cache has the revision: the model can be loaded without the Hub's answer.
_CACHED_LISTING_TIMEOUT = 3.0

_PARALLEL_DOWNLOADS = 8

#: Caches and revisions that a warning named since the Hub last answered.
_warned: set[tuple[Path, str]] = set()

#: What `_listing_or_cache` found inside `listing_once`.
_listings: ContextVar[dict[Repository, tuple[Listing, str | None]] | None] = ContextVar(
    "_listings", default=None
)

#: What a server may call a commit, git's name of it or another: it becomes the name of a folder and
#: of a file.
_COMMIT = re.compile(r"(?!\.)[\w.-]{1,128}", re.ASCII)
#: A commit in full, which a branch or a tag is not.
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Listing:
    """A commit's files. `sizes` maps name to bytes (None: unknown); `complete` tells whether the
    repository may hold others."""

    commit: str
    sizes: Mapping[str, int | None]
    complete: bool = True


class HubFiles(Files):
    """The files of one commit, each downloaded when it is first asked for.

    Attributes:
        unreachable: Why nothing can be downloaded, or None.
    """

    def __init__(
        self, repository: Repository, listing: Listing, unreachable: str | None = None
    ) -> None:
        self.repository = repository
        self.listing = listing
        self.unreachable = unreachable
        self.snapshot = repository.cache / "snapshots" / listing.commit
        self._whole: set[str] = set()

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.listing.sizes))

    def size(self, name: str) -> int | None:
        known = self.listing.sizes.get(name)
        path = self.snapshot / name
        return path.stat().st_size if known is None and path.exists() else known

    def available(self, name: str) -> bool:
        return self.unreachable is None or (self.snapshot / name).exists()

    def path(self, name: str) -> Path:
        path = self.snapshot / name
        if self.unreachable is None:
            self._remembered  # noqa: B018 - once, before the first file
        with explained(self.repository, f"look for {name} of"):
            there = path.exists()
        if not there:
            if self.unreachable is not None:
                raise ModelError(
                    f"{name} of {self.repository} is not in the cache "
                    f"({self.repository.cache}), and {self.unreachable}. With a "
                    "connection, load the model once the same way, or run: "
                    f"{self.repository.download_command} {name}"
                )
            path = self._download(name)
        if name not in self._whole:
            check_readable(path)  # others may fill the cache
            self._check_whole(name, path)
            self._whole.add(name)
        return path

    def folder(self, names: Iterable[str]) -> Path:
        wanted = list(names)
        with quiet_bars(), ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
            list(pool.map(self.path, wanted))
        return self.snapshot

    def _download(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        repository = self.repository

        def download() -> None:
            hf_hub_download(
                repository.repo_id,
                name,
                revision=self.listing.commit,
                cache_dir=repository.cache.parent,
                token=repository.token,
                endpoint=repository.endpoint,
                library_name="core",
                library_version=__version__,
            )

        with quiet_bars(), explained(repository, f"download {name} of"):
            # huggingface_hub itself tries again when the Hub answers, and goes on where it was;
            # before 1.0 not when a connection breaks off.
            _retried(download, is_broken_connection)
        path = self.snapshot / name  # its answer leads through links of the cache's path
        if not path.exists():
            raise ModelError(
                f"Cannot download {name} of {repository}: {repository.hub} answered with a "
                f"file of another commit than {self.listing.commit}, which it was asked for and "
                "has listed. Check $HF_ENDPOINT, and that what answers there keeps to commits."
            )
        return path

    @cached_property
    def _remembered(self) -> None:
        """Keep revision and listing, so that the same name works offline."""
        repository, commit = self.repository, self.listing.commit
        record = {"commit": commit, "sizes": dict(self.listing.sizes)}
        try:
            _write(repository.cache / ".core" / f"{commit}.json", json.dumps(record))
            if repository.revision != commit:
                _write(repository.cache / "refs" / repository.revision, commit)
        except OSError as error:
            logger.info("%s: the listing was not kept for offline use: %s", repository, error)

    def _check_whole(self, name: str, path: Path) -> None:
        """A file that was cut off stays in the cache forever, so it has to be named."""
        actual, stated = path.stat().st_size, self.listing.sizes.get(name)
        why = None
        if stated is not None and actual != stated:
            why = f"it has {actual:,} bytes and the Hub says {stated:,}"
        elif stated is None and name.endswith(".safetensors"):
            try:
                check_safetensors(path)
            except ModelFormatError as error:
                why = str(error)
        if why is not None:
            command = f"hf download {self.repository.repo_id} {name}"
            kept = path.resolve()
            if not kept.is_relative_to(self.repository.cache.resolve()):
                kept = path  # somebody's link: what it leads to is none of the cache's
            raise ModelFormatError(
                f"The cached copy of {name} of {self.repository} is not whole: {why}. Fetch it "
                f"again with: {command} --revision {self.listing.commit} --force-download (or "
                f"delete {kept} and load again)."
            )


def open_repository(
    name: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> HubFiles:
    """The files of `name` (`owner/name`, or `name` of sentence-transformers) at a revision.

    The revision (branch, tag, commit, `refs/pr/N`) is resolved to a commit once. When the Hub
    cannot be reached, the commit last seen is used, with a warning.

    Raises:
        ModelNotFound: No such repository or revision, no permission, or nothing cached offline.
        ModelError: The Hub does not answer and nothing is cached.
    """
    repository = Repository(
        repo_id=name if "/" in name else f"{DEFAULT_OWNER}/{name}",
        revision=revision or "main",
        token=token,
        cache_dir=None if cache_dir is None else expand_home(cache_dir).absolute(),
    )
    offline = offline_reason(local_files_only)
    if offline is not None:
        listing = cached_listing(repository)
        if listing is None:
            raise ModelNotFound(
                f"{repository} is not in the cache ({repository.cache}), and {offline}. With a "
                f"connection, load it once without that, or run: {repository.download_command}"
            )
    elif (known := _listing_of_commit(repository)) is not None:
        listing = known
    else:
        found = _listings.get()
        if found is None:
            listing, offline = _listing_or_cache(repository)
        else:
            if repository not in found:
                found[repository] = _listing_or_cache(repository)
            listing, offline = found[repository]
    return HubFiles(repository, listing, offline)


@contextmanager
def listing_once() -> Iterator[None]:
    """Inside, the Hub is asked for a revision's files once, and what is found then holds.

    What opens a model twice, for its kind and for its files, waits once for a Hub that does not
    answer, and means one commit.
    """
    if _listings.get() is not None:
        yield
        return
    token = _listings.set({})
    try:
        yield
    finally:
        _listings.reset(token)


def offline_reason(local_files_only: bool) -> str | None:
    """Why no connection may be opened, or None when one may."""
    constants = hub_constants()
    if local_files_only:
        return "local_files_only=True forbids downloading"
    stated = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON", "YES")
    if not stated and not constants.HF_HUB_OFFLINE:
        return None
    older = not os.environ.get("HF_HUB_OFFLINE") and "TRANSFORMERS_OFFLINE" in os.environ
    return f"{'TRANSFORMERS' if older else 'HF_HUB'}_OFFLINE=1 forbids downloading"


def _listing_or_cache(repository: Repository) -> tuple[Listing, str | None]:
    known = (repository.cache, repository.revision)
    try:
        listing = fetch_listing(repository)
    except ModelNotFound:
        raise  # the Hub answered
    except ModelError as error:
        cached = cached_listing(repository)
        if cached is None:
            raise
        if known not in _warned:
            _warned.add(known)
            logger.warning("%s Using the cached commit %s.", error, cached.commit[:8])
        return cached, f"the Hub could not be asked ({error})"
    _warned.discard(known)
    return listing, None


def fetch_listing(repository: Repository) -> Listing:
    """Commit and files of a revision, in one request."""
    commit = cached_commit(repository)
    timeout = _LISTING_TIMEOUT if commit is None else _CACHED_LISTING_TIMEOUT
    with explained(repository, "list"):
        info = _retried(
            lambda: repository.api.model_info(
                repository.repo_id,
                revision=repository.revision,
                files_metadata=True,
                timeout=timeout,
            ),
            lambda error: status_of(error) in _RETRIED_STATUS,
        )
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise ModelError(
            f"Cannot list {repository}: {repository.hub} names the commit {info.sha!r:.80}, "
            "which is none. Check $HF_ENDPOINT, or use what is cached: local_files_only=True."
        )
    return Listing(info.sha, _sizes((file.rfilename, file.size) for file in info.siblings or ()))


def _sizes(listed: Iterable[tuple[Any, Any]]) -> dict[str, int | None]:
    """Bytes of each file; None for what is no size."""
    return {
        name: size if type(size) is int and size >= 0 else None
        for name, size in listed
        if isinstance(name, str)
    }


def cached_listing(repository: Repository) -> Listing | None:
    """What is known without a connection, or None when the revision was never loaded."""
    cache, commit = repository.cache, cached_commit(repository)
    if commit is None:
        return None
    if (recorded := _recorded_listing(repository, commit)) is not None:
        return recorded
    snapshot = cache / "snapshots" / commit
    found = [p for p in snapshot.rglob("*") if p.is_file()]
    names = {p.relative_to(snapshot).as_posix(): None for p in found}
    absent = cache / ".no_exist" / commit / "modules.json"
    if names and "modules.json" not in names and not absent.exists():
        logger.warning(
            "The cached copy of %s has no modules.json, and the cache does not tell whether the "
            "repository has one: a tool that needs the transformer alone may have downloaded it. "
            "Load it once with a connection to be sure of its pooling.",
            repository,
        )
    return Listing(commit, names, complete=False) if names else None


def _listing_of_commit(repository: Repository) -> Listing | None:
    """What the Hub said of a commit that is named in full: nothing can have changed since."""
    commit = repository.revision
    if not _FULL_COMMIT.fullmatch(commit) or cached_commit(repository) != commit:
        return None
    return _recorded_listing(repository, commit)


def _recorded_listing(repository: Repository, commit: str) -> Listing | None:
    """What the Hub said of a commit; None where another tool downloaded it."""
    try:
        record = json.loads((repository.cache / ".core" / f"{commit}.json").read_bytes())
        return Listing(commit, _sizes(record["sizes"].items()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def cached_commit(repository: Repository) -> str | None:
    """The commit of the revision as the cache has it, or None."""
    cache, commit = repository.cache, repository.revision
    with suppress(OSError, ValueError):  # damaged, or no name that a file can have
        reference = cache / "refs" / commit
        if reference.is_file():
            commit = reference.read_text(encoding="utf-8").strip()
    try:
        known = _COMMIT.fullmatch(commit) is not None and (cache / "snapshots" / commit).is_dir()
    except OSError:  # a cache that this user may not enter, or that can be nowhere
        return None
    return commit if known else None


def _retried(call: Callable[[], Any], worth_it: Callable[[Exception], bool]) -> Any:
    for delay in RETRY_DELAYS:
        try:
            return call()
        except Exception as error:
            if not worth_it(error):
                raise
            time.sleep(delay)
    return call()


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # other tools would read it as a reference


@process_wide
@contextmanager
def quiet_bars() -> Iterator[None]:
    """Progress bars only where somebody sees them."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    settled = hub_constants().HF_HUB_DISABLE_PROGRESS_BARS is not None  # by its variable
    if settled or stderr_is_terminal() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
