"""Digests that tell one content of a file from another in milliseconds, however large it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Configuration is read whole up to this size; it is a model's largest tokenizer, and more.
_MOST_WHOLE = 64_000_000
#: Blocks that are read of a larger file, spread evenly from its first byte to its last.
_BLOCKS = 256
_BLOCK_BYTES = 4_096
_DIGITS = 32


def fingerprint_of(path: Path, *, whole: bool) -> str:
    """32 hexadecimal digits (of its SHA-256) of a file's content: not of its name, place or time.

    Of a weight file (`whole` false) over 1 MiB, size and 256 blocks of 4 KiB at even distances
    count. Training changes nearly every weight, and a changed stretch longer than 1/255 of the
    file always meets a block; a change of a few bytes elsewhere may not. It is no protection
    against somebody who wants two files to look alike.

    Args:
        whole: Whether every byte counts: for configuration, up to 64 MB.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        if size <= (_MOST_WHOLE if whole else _BLOCKS * _BLOCK_BYTES):
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()[:_DIGITS]
        for number in range(_BLOCKS):
            file.seek(number * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:_DIGITS]


def seen(path: Path) -> dict[str, Any]:
    """What tells later whether a weight file is the same: plain values, for a record.

    Returns:
        `bytes`; `modified`, in whole seconds since 1970, which is what copies keep; `fingerprint`.
    """
    stat = path.stat()
    return {
        "bytes": stat.st_size,
        "modified": int(stat.st_mtime),
        "fingerprint": fingerprint_of(path, whole=False),
    }


def is_as_seen(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a weight file is the one that `seen` recorded.

    One of that size and time is: no part of it is read, which a network file system may do slowly.
    """
    stat = path.stat()
    if stat.st_size != record.get("bytes"):
        return False
    if int(stat.st_mtime) == record.get("modified"):
        return True
    return fingerprint_of(path, whole=False) == record.get("fingerprint")
