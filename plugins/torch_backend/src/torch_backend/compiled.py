"""Compile configurations: small JSON files that name weights and how to compile the model.

`torch.compile` produces nothing that could be stored and trusted, so its artifact is the request:
`{"format": 1, "weights": "model.safetensors", "compile": {"dynamic": true}}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import Checkpoint
from core.errors import ModelFormatError, OptionError
from core.toolkit import check_names

_FORMAT = 1
#: Options of `torch.compile` that a compile configuration may hold.
COMPILE_OPTIONS = ("mode", "dynamic", "fullgraph")
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


@dataclass(frozen=True)
class CompiledConfig:
    """Weights of the checkpoint, and options for `torch.compile`."""

    weights: str
    compile_options: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Store it at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "weights": self.weights,
            "compile": dict(self.compile_options),
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def is_compiled_config(file_name: str) -> bool:
    """Whether a file name is that of a compile configuration."""
    return file_name.endswith(".json") and not file_name.endswith(".index.json")


def read_compiled_config(source: Checkpoint, file_name: str) -> CompiledConfig:
    """Parse and check a compile configuration of the checkpoint.

    Raises:
        ModelFormatError: Not a compile configuration, or its weights are missing.
    """
    content = source.read_json(file_name)
    weights, options = content.get("weights"), content.get("compile")
    known = content.get("format") == _FORMAT and isinstance(weights, str)
    if not known or is_compiled_config(weights):
        raise ModelFormatError(
            f"{source}: {file_name} is not a compile configuration of the torch backend."
        )
    if not isinstance(options, dict):
        raise ModelFormatError(f"{source}: {file_name} has no compile options.")
    if not source.has(weights):
        raise ModelFormatError(
            f"{source}: {file_name} is a compile configuration for {weights!r}, which is missing."
        )
    try:
        check_compile_options(options)
    except OptionError as error:
        raise ModelFormatError(f"{source}: {file_name}: {error}") from error
    return CompiledConfig(weights, options)


def check_compile_options(options: Mapping[str, Any]) -> None:
    """Raise `OptionError` for what `torch.compile` would not take."""
    check_names(options, COMPILE_OPTIONS, "compile")
    mode = options.get("mode", "default")
    if mode not in _MODES:
        raise OptionError(f"mode must be one of {', '.join(_MODES)}, not {mode!r}.")
    for name in ("dynamic", "fullgraph"):
        if not isinstance(options.get(name, True), bool):
            raise OptionError(f"{name} must be true or false, not {options[name]!r}.")
