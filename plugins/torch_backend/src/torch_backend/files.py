"""Writing a transformer's weights as safetensors, and reading their metadata back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from core.errors import ModelFormatError

#: Metadata key of files with integer weights; its value names the scheme.
QUANTIZATION = "core.quantization"


def write_module(
    module: torch.nn.Module, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Store a module's state as safetensors, a tensor shared by several names once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seen: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:
            continue  # tied weights: loading ties them again
        seen[place] = name
        tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})


_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}


def stored_dtype(path: Path) -> torch.dtype:
    """float16 or bfloat16 where a tensor of the file has it, else float32."""
    with safe_open(path, framework="pt") as file:
        stored = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return next((dtype for name, dtype in _DTYPES.items() if name in stored), torch.float32)


def read_metadata(path: Path) -> dict[str, str]:
    """The header's metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{path} is not a whole safetensors file: {error}.") from error
