"""Files that a clone without Git LFS leaves in the place of large ones."""

from __future__ import annotations

from pathlib import Path

from core.errors import ModelFormatError

#: The format is that of https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
_LFS_POINTER = b"version https://git-lfs"


def check_fetched(path: Path, shown: str) -> None:
    """Refuse the few lines that Git leaves in the place of a large file it did not fetch.

    Raises:
        ModelFormatError: It is such a pointer; `shown` names it.
    """
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise ModelFormatError(
            f"{shown} is a pointer of Git LFS, not the file itself. Run `git lfs pull` in the "
            "repository it was cloned with, or download the model again."
        )
