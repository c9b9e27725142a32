"""From a checkpoint's files to a transformer: default weights, variants and recipes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core import Architecture, Checkpoint, LoadOptions
from core.errors import ModelError, ModelFormatError, OptionError, UnsupportedOperation
from core.weights import check_safetensors

#: Encoder-decoder architectures of which only the encoder embeds.
_ENCODERS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}


@dataclass(frozen=True)
class OpenedTransformer:
    """A transformer on the CPU. `dtype` is set where its parameters do not tell."""

    module: torch.nn.Module
    dtype: str | None = None


def open_transformer(
    source: Checkpoint,
    architecture: Architecture,
    options: LoadOptions,
    kwargs: Mapping[str, Any],
    dtype: torch.dtype | str | None,
) -> OpenedTransformer:
    """Build the transformer and load the weights named by `options.file_name`.

    Raises:
        ModelFormatError: Configuration or weights are missing, truncated or do not fit.
    """
    file_name = options.file_name
    assert file_name is not None
    _check_weights(source, file_name)
    folder = _gather(source, architecture, file_name, options.trust_remote_code)
    config = _read_config(source, folder, options, architecture)
    arguments: dict[str, Any] = {
        "config": config,
        "trust_remote_code": options.trust_remote_code,
        "local_files_only": True,
    }
    attention = kwargs.get("attn_implementation")
    if attention is not None:
        arguments["attn_implementation"] = attention
    if dtype is not None:
        arguments["dtype" if _new_spelling() else "torch_dtype"] = dtype
    elif not _new_spelling():
        arguments["torch_dtype"] = torch.float32
    else:
        arguments["dtype"] = torch.float32
    return OpenedTransformer(_from_pretrained(source, file_name, folder, arguments))


def _check_weights(source: Checkpoint, file_name: str) -> None:
    if file_name.endswith(".safetensors"):
        check_safetensors(source.path(file_name))


def _gather(
    source: Checkpoint, architecture: Architecture, file_name: str, trust_remote_code: bool
) -> Path:
    """A local folder with the transformer's configuration and weights."""
    if not source.has(architecture.file("config.json")):
        raise ModelFormatError(
            f"{source} has no {architecture.file('config.json')}, which tells PyTorch what to build."
        )
    wanted = [architecture.file("config.json"), file_name]
    if file_name.endswith(".index.json"):
        index = source.read_json(file_name)
        shards = index.get("weight_map")
        if not isinstance(shards, dict):
            raise ModelFormatError(f"{source}: {file_name} has no weight_map.")
        parent = file_name.rpartition("/")[0]
        for shard in sorted({str(s) for s in shards.values()}):
            full = f"{parent}/{shard}" if parent else shard
            if not source.has(full):
                raise ModelFormatError(
                    f"{source}: {file_name} names the weights {shard!r}, which are missing. "
                    "Copy or download them again."
                )
            wanted.append(full)
            _check_weights(source, full)
    if trust_remote_code:
        wanted += [n for n in source.names if n.endswith(".py")]
    return source.folder(wanted) / architecture.path


def _read_config(
    source: Checkpoint, folder: Path, options: LoadOptions, architecture: Architecture
) -> Any:
    from transformers import AutoConfig

    overrides = {**architecture.config_kwargs, **options.config_kwargs}
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(
                str(folder),
                trust_remote_code=options.trust_remote_code,
                local_files_only=True,
                **overrides,
            )
        except Exception as error:
            raise _explain(source, "config.json", error, options.trust_remote_code) from error


def _from_pretrained(
    source: Checkpoint, file_name: str, folder: Path, arguments: dict[str, Any]
) -> torch.nn.Module:
    with quiet_transformers():
        try:
            model, info = _model_class(arguments["config"]).from_pretrained(
                str(folder),
                use_safetensors=".safetensors" in file_name,
                output_loading_info=True,
                **arguments,
            )
        except Exception as error:
            raise _explain(
                source, file_name, error, bool(arguments["trust_remote_code"])
            ) from error
    missing = [k for k in info["missing_keys"] if "pooler" not in k and "position_ids" not in k]
    if missing:
        raise ModelFormatError(
            f"{source}: {file_name} lacks {len(missing)} of the weights its config.json asks for "
            f"({', '.join(sorted(missing)[:4])}, ...). It belongs to another model or is incomplete."
        )
    module: torch.nn.Module = model
    return module


def _model_class(config: Any) -> Any:
    import transformers

    return getattr(transformers, _ENCODERS.get(config.model_type, "AutoModel"))


def _explain(
    source: Checkpoint, file_name: str, error: Exception, trusted: bool
) -> ModelError | OptionError | UnsupportedOperation:
    text = str(error).strip().split("\n")[0]
    if "trust_remote_code" in str(error) and not trusted:
        return UnsupportedOperation(
            f"{source} brings its own model code, which only runs with trust_remote_code=True. Read "
            "the code in its repository before you allow it."
        )
    if "attn_implementation" in str(error) or "attention" in text.lower():
        return OptionError(f"{source}: {text}")
    return ModelFormatError(f"{source}: PyTorch cannot load {file_name}: {text}")


def _new_spelling() -> bool:
    """transformers 4.56 renamed `torch_dtype` to `dtype`."""
    from transformers import __version__

    major, minor = (int(part) for part in __version__.split(".")[:2])
    return (major, minor) >= (4, 56)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' loading reports and progress bars; errors still raise."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
