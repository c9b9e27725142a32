"""Compile configurations: small JSON files that name weights and how to compile the model; and
modules compiled as they say.

`torch.compile` produces nothing that could be stored and trusted, so its artifact is the request:
`{"format": 1, "weights": "model.safetensors", "compile": {"dynamic": true}}`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core import Checkpoint
from core.errors import ModelFormatError, OptionError, UnsupportedOperation
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


def compile_module(
    module: torch.nn.Module,
    input_names: Sequence[str],
    device: torch.device,
    options: Mapping[str, Any],
) -> Any:
    """`torch.compile`, tried at once: a missing compiler shows here and not in a later batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while it traces
        compiled = torch.compile(module, **options)
        sample = torch.ones((2, 8), dtype=torch.long, device=device)
        try:
            with torch.inference_mode():
                compiled(**dict.fromkeys(input_names, sample))
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise UnsupportedOperation(
                f"torch.compile cannot compile this model here ({type(error).__name__}: {reason}). "
                "On a CPU it needs a C++ compiler (`apt-get install g++`). Load the weights "
                "themselves to run without it."
            ) from error
    return compiled
