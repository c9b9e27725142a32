"""Paths that stay inside a model's directory, and digests of files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path, PurePosixPath

from core.errors import ModelError, ModelFormatError


def check_relative(name: str, what: str) -> None:
    """Raise `ModelFormatError` for a name that is absolute or climbs with `..`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None
    if absolute or ".." in parts or "\0" in name:
        raise ModelFormatError(
            f"{name!r}, named as {what}, points outside the model's directory. core reads only "
            "files inside it; do not use this model unless you trust where it is from."
        )


def resolve_inside(root: Path, name: str) -> Path:
    """`root / name`, unless it or a link in it leads outside `root`.

    The Hub cache is the one exception: its snapshots are links into `blobs` of the same
    repository or of the whole cache.

    Raises:
        ModelFormatError: It leads outside, or is not a regular file (a pipe would block forever).
        ModelError: This user may not read it.
    """
    check_relative(name, f"a file of {root}")
    path = root / name
    try:
        real, inside = path.resolve(), root.resolve()
    except (OSError, RuntimeError) as error:  # which of them depends on Python's version
        raise ModelFormatError(
            f"{path} is a link that leads to itself. Replace it with the actual file."
        ) from error
    if not real.is_relative_to(inside) and not _in_hub_cache(real, inside):
        raise ModelFormatError(
            f"{path} is a link to {real}, outside the model's directory. core reads only files "
            "inside it; replace the link with the file if you trust it."
        )
    if path.is_symlink() and not real.exists():
        raise ModelFormatError(
            f"{path} is a link to {real}, which is gone. Download or copy the file again."
        )
    if real.exists() and not stat.S_ISREG(real.stat().st_mode):
        raise ModelFormatError(f"{path} is not a regular file. Replace it with the actual file.")
    if real.exists():
        check_readable(path)
    return path


def check_readable(path: Path) -> None:
    """Raise `ModelError` for a file that this user may not read."""
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ModelError(f"{path} is not readable by this user. Give access: `chmod a+r {path}`.")


def closed_folder(path: Path) -> ModelError:
    """The error for a folder of a model that this user may not list or enter."""
    return ModelError(
        f"{path} is a folder that this user may not read. Give access: `chmod a+rx {path}`."
    )


def _in_hub_cache(real: Path, snapshot: Path) -> bool:
    if snapshot.parent.name != "snapshots":
        return False
    repository, cache = snapshot.parents[1], snapshot.parents[2]
    return real.is_relative_to(repository / "blobs") or real.is_relative_to(cache / "blobs")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_same_file(place: Path, path: Path) -> bool:
    """Whether `place` is a file with the content of `path`."""
    if not place.is_file():
        return False
    if place.samefile(path):
        return True
    same_size = place.stat().st_size == path.stat().st_size
    return same_size and sha256_of(place) == sha256_of(path)
