"""Files of variants, each made by its backend in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.plugin.registry import registry
from core.tuning.candidates import Candidate
from core.tuning.process import Bench, DiedError, TooSlowError, open_bench


class Maker:
    """One process a backend, with the model as it is, that the others are made from.

    Args:
        name: What to load, as the caller named it.
        arguments: Of `core.load`.
        target: The directory for what is made.
        calibration: Texts for configurations that take some.
    """

    def __init__(
        self, name: str, arguments: Mapping[str, Any], target: Path, calibration: Sequence[str]
    ) -> None:
        self._name, self._arguments, self._target = name, arguments, str(target)
        self._calibration = list(calibration)
        self._benches: dict[str, Bench] = {}

    def load(self, backend: str, seconds: float) -> None:
        """Load the model, which makes and caches an export where the backend needs one.

        Raises:
            TooSlowError: It took longer than `seconds`.
        """
        bench = self._benches.get(backend)
        if bench is None:
            bench = self._benches[backend] = open_bench(backend)
            try:
                arguments = {**self._arguments, "backend": backend}
                bench.ask("load", self._name, arguments, seconds=seconds)
            except BaseException:
                self._benches.pop(backend).close()
                raise

    def make(self, candidate: Candidate, seconds: float) -> str:
        """Make a candidate's file; its name in the target.

        Raises:
            TooSlowError: It took longer than `seconds`.
            CoreError: The backend cannot make it.
        """
        try:
            if candidate.operation == "export":
                return self._export(candidate, seconds)
            self.load(candidate.backend, seconds)
            given: dict[str, Any] = {}
            if candidate.calibrated and self._calibration:
                given["calibration"] = self._calibration
            maker = self._benches[candidate.backend]
            arguments = (candidate.operation, candidate.config, self._target, given)
            return str(maker.ask("make", *arguments, seconds=seconds))
        except (DiedError, TooSlowError):  # the next file gets another process
            if bench := self._benches.pop(candidate.backend, None):
                bench.close()
            raise

    def _export(self, candidate: Candidate, seconds: float) -> str:
        usual = Path(registry.backend(candidate.backend).capabilities.file_names[-1])
        # Unlike the default's: both may go to the same directory.
        name = usual.with_name(f"{usual.stem}_{candidate.config}{usual.suffix}").as_posix()
        options = {
            **self._arguments,
            "backend": candidate.backend,
            "precision": candidate.config,
            "file_name": name,
        }
        bench = open_bench(candidate.backend)
        try:
            return str(bench.ask("export", self._name, self._target, options, seconds=seconds))
        finally:
            bench.close()

    def close(self) -> None:
        """End the processes."""
        for bench in self._benches.values():
            bench.close()
        self._benches.clear()
