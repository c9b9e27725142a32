"""Weight files: their names, what belongs together, writing and reading them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from core import Checkpoint
from core.errors import ModelFormatError

#: The checkpoint's own weights, first choice first.
DEFAULT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: Metadata key of files with integer weights; its value names the scheme.
QUANTIZATION = "core.quantization"


def write_module(
    module: torch.nn.Module, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Store a module's state as safetensors, a tensor shared by several names once: under the name
    from which loading ties the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seen: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    copies = set(getattr(module, "_tied_weights_keys", None) or ())
    for name, tensor in sorted(module.state_dict().items(), key=lambda entry: entry[0] in copies):
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


def weight_files(source: Checkpoint, file_name: str) -> list[str]:
    """The file and, if it is an index, the shards it names; each exists."""
    if not file_name.endswith(".index.json"):
        return [file_name]
    shards = source.read_json(file_name).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelFormatError(f"{source}: {file_name} has no weight_map.")
    parent = file_name.rpartition("/")[0]
    found = [file_name]
    for shard in sorted({str(s) for s in shards.values()}):
        full = f"{parent}/{shard}" if parent else shard
        if not source.has(full):
            raise ModelFormatError(
                f"{source}: {file_name} names the weights {shard!r}, which are missing. Copy or "
                "download them again."
            )
        found.append(full)
    return found


def check_missing(source: Checkpoint, file_name: str, names: Any) -> None:
    """Raise `ModelFormatError` if weights that embedding needs were not in the file."""
    # The pooler serves other heads, and position ids are not weights.
    missing = sorted(n for n in names if "pooler" not in n and "position_ids" not in n)
    if missing:
        shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise ModelFormatError(
            f"{source}: {file_name} lacks {len(missing)} of the weights that config.json asks for "
            f"({shown}). It is incomplete or belongs to another model."
        )


def check_shapes(
    source: Checkpoint, file_name: str, mismatched: Any, mend: str | None = None
) -> None:
    """Raise `ModelFormatError` for weights of other shapes than config.json makes.

    Args:
        mismatched: (name, shape in the file, shape in the model) of each.
        mend: What to do, where more is known of it.
    """
    found = sorted(mismatched, key=lambda entry: str(entry[0]))
    if found:
        shown = "; ".join(
            f"{name} is {list(stored)} and config.json makes it {list(built)}"
            for name, stored, built in found[:3]
        )
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        usual = "One of the two files belongs to another model: download or copy both again."
        raise ModelFormatError(
            f"{source}: {file_name} does not fit config.json: {shown}{more}. {mend or usual}"
        )


def check_uncompressed(source: Checkpoint, name: str) -> None:
    """Raise `ModelFormatError` for a .bin file that was packed again with compression.

    transformers maps such files into memory, and takes compressed bytes for the weights.
    """
    try:
        with zipfile.ZipFile(source.path(name)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return  # the format of before 1.6, or damaged, of which PyTorch tells
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ModelFormatError(
            f"{source}: {name} is a compressed archive, whose bytes PyTorch would take for the "
            "weights themselves. It was packed again: download or copy the original, or load it "
            "with torch.load and save it anew with torch.save."
        )
