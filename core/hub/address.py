"""A repository's address in a browser, read as its name and revision."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from core.errors import ModelNotFound, OptionError
from core.hub.repository import hub_constants

#: `/owner/name`, and what may follow: a revision, or a page about the repository.
_PATH = re.compile(
    r"/(?P<repo>[\w.\-]+/[\w.\-]+?)(?:\.git)?(?:/(?P<kind>tree|blob|resolve)/(?P<rest>.+))?/?"
)


def is_address(name: str) -> bool:
    """Whether a name is a URL."""
    return re.match(r"https?://", name) is not None


def read_address(address: str, revision: str | None) -> tuple[str, str | None]:
    """Name and revision of the repository that a URL of the Hub shows.

    Args:
        revision: What the caller asked for in addition.

    Raises:
        ModelNotFound: It is a URL of another host, or of something other than a repository.
        OptionError: It names one revision and `revision` another.
    """
    parts = urlsplit(address)
    if parts.hostname not in _hosts():
        raise ModelNotFound(
            f"{address!r} is not an address of the Hub ({', '.join(sorted(_hosts()))}). Download "
            "the model and give its directory, or name a repository: 'owner/name'."
        )
    found = _PATH.fullmatch(unquote(parts.path))
    if found is None:
        raise ModelNotFound(
            f"{address!r} does not show a model's repository, whose address ends in /owner/name or "
            "/owner/name/tree/REVISION. Name the repository: 'owner/name'."
        )
    rest = found["rest"]
    if found["kind"] in ("blob", "resolve"):
        stated, _, file = rest.partition("/")
        raise ModelNotFound(
            f"{address!r} is the address of a file. Give the repository, {found['repo']!r}, with "
            f"revision={stated!r} and file_name={file!r}."
        )
    if rest is None:
        return found["repo"], revision
    stated = rest.rstrip("/")
    if revision not in (None, stated):
        raise OptionError(
            f"revision={revision!r}, and {address!r} shows {stated!r}: pass one of them."
        )
    return found["repo"], stated


def _hosts() -> set[str]:
    """The Hub that is configured, and the one that addresses in documents show."""
    constants = hub_constants()
    addresses = (
        os.environ.get("HF_ENDPOINT"),
        constants.ENDPOINT,
        getattr(constants, "_HF_DEFAULT_ENDPOINT", None),
    )
    hosts = (urlsplit(address).hostname for address in addresses if address)
    return {host for host in hosts if host}
