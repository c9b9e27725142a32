"""The result of `core.tune`: what was found, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import OptionError
from core.tuning.findings import Findings
from core.tuning.page import write_page
from core.tuning.plot import write_plot


@dataclass(kw_only=True)
class TuneReport(Findings):
    """The result of `core.tune`; `core.tuning.findings.Findings` has its attributes."""

    _write: Callable[[Any], Path] | None = field(default=None, repr=False)

    def write(self, target: str | os.PathLike[str] | None = None) -> Path:
        """Put the chosen file and the lock into a directory, as `core.tune` does by default.

        Args:
            target: As for `core.tune`.

        Returns:
            The path of the lock.
        """
        if self._write is None:
            raise OptionError("This report was not made by core.tune, so it has no files to write.")
        self.lock = self._write(target)
        return self.lock

    def save_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page with the recommendation, a plot and the table; it loads nothing else."""
        return write_page(self, path)

    def save_plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw speed against fidelity, with the Pareto front: .svg, or .png where matplotlib is.

        Raises:
            OptionError: Another ending.
            CoreError: .png without matplotlib (`pip install core[plot]`).
        """
        return write_plot(self, path)
