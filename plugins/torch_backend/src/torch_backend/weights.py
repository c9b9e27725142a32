"""From a checkpoint's files to a transformer.

A file is one of: the checkpoint's own weights (`model.safetensors`, `pytorch_model.bin`, whole or
in shards), a variant beside them (`model_fp16.safetensors`, `model_qint8.safetensors`), or a
recipe (`torch/model_compile.json`) that names weights and what to do with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core import Architecture, Checkpoint, LoadOptions
from core.errors import CoreError, ModelFormatError, OptionError, UnsupportedOperation
from core.toolkit import (
    check_safetensors,
    explain_surroundings,
    quiet_transformers,
    temporary_directory,
)
from torch_backend.compiled import is_recipe, read_recipe
from torch_backend.files import (
    DEFAULT_NAMES,
    QUANTIZATION,
    check_missing,
    read_metadata,
    stored_dtype,
    weight_files,
)
from torch_backend.kernels.int8 import open_quantized

#: What a model's own files may ask for; a caller may name any that transformers knows.
ATTENTION_IMPLEMENTATIONS = (
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flex_attention",
)
#: Encoder-decoder architectures of which only the encoder embeds.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
}


@dataclass(frozen=True)
class OpenedTransformer:
    """A transformer on the CPU.

    Attributes:
        files: Of the checkpoint, that it was read from; the one asked for first.
        dtype: What it computes in, where its parameters do not tell.
        compile_options: For `torch.compile`, or None to run it as it is.
    """

    module: torch.nn.Module
    files: tuple[str, ...]
    dtype: str | None = None
    compile_options: Mapping[str, Any] | None = None


def open_transformer(
    source: Checkpoint,
    architecture: Architecture,
    options: LoadOptions,
    kwargs: Mapping[str, Any],
    dtype: torch.dtype | str | None,
    *,
    on_cpu: bool,
) -> OpenedTransformer:
    """Build the transformer and load the weights named by `options.file_name`.

    Args:
        kwargs: `attn_implementation`, where given.
        dtype: "auto" keeps the dtype the file stores, and so does None, except that the
            checkpoint's own weights become float32 on a CPU, which computes that fastest.
        on_cpu: Whether a CPU will run it.

    Raises:
        ModelFormatError: Configuration or weights are missing, truncated or do not fit.
        OptionError: The dtype or attention implementation cannot be used.
    """
    file_name = options.file_name or DEFAULT_NAMES[0]
    if is_recipe(file_name):
        recipe = read_recipe(source, file_name)
        inner = replace(options, file_name=recipe.weights)
        opened = open_transformer(source, architecture, inner, kwargs, dtype, on_cpu=on_cpu)
        return replace(
            opened, files=(file_name, *opened.files), compile_options=recipe.compile_options
        )
    folder = _gather(source, architecture, file_name, options.trust_remote_code)
    config = _read_config(source, folder, options, architecture)
    files = tuple(weight_files(source, file_name))
    metadata = read_metadata(source.path(file_name)) if file_name.endswith(".safetensors") else {}
    if QUANTIZATION in metadata:
        if dtype not in (None, "auto", torch.float32):
            raise OptionError(
                f"{file_name} holds int8 weights; dtype={dtype} cannot be applied to it."
            )
        with quiet_transformers(), _explained(source, file_name, options.trust_remote_code):
            empty = _model_from_config(config, options.trust_remote_code)
        return OpenedTransformer(open_quantized(source, file_name, empty), files, dtype="int8")
    is_default = file_name.rpartition("/")[2] in DEFAULT_NAMES
    if dtype is None:
        if not is_default:  # a variant was written for its dtype, whatever config.json says
            dtype = stored_dtype(source.path(file_name))
        else:
            dtype = torch.float32 if on_cpu else "auto"
    arguments: dict[str, Any] = {
        "config": config,
        "trust_remote_code": options.trust_remote_code,
        **_code_source(source, options.trust_remote_code),
        _dtype_keyword(): dtype,
    }
    if kwargs.get("attn_implementation") is not None:
        arguments["attn_implementation"] = kwargs["attn_implementation"]
    if is_default:
        return OpenedTransformer(_from_pretrained(source, file_name, folder, arguments), files)
    with temporary_directory("core-torch-") as links:
        # transformers only loads weights under their default name.
        Path(links, "config.json").symlink_to((folder / "config.json").resolve())
        Path(links, "model.safetensors").symlink_to(source.path(file_name).resolve())
        module = _from_pretrained(source, file_name, Path(links), arguments)
        return OpenedTransformer(module, files)


def _gather(
    source: Checkpoint, architecture: Architecture, file_name: str, trust_remote_code: bool
) -> Path:
    """The local folder of the transformer, its configuration and weights in it and whole."""
    config = architecture.file("config.json")
    if not source.has(config):
        raise ModelFormatError(f"{source} has no {config}, which tells PyTorch what to build.")
    wanted = [config, *weight_files(source, file_name)]
    if trust_remote_code:
        wanted += [name for name in source.names if name.endswith(".py")]
    folder = source.folder(wanted)
    for name in wanted:
        if name.endswith(".safetensors"):
            check_safetensors(source.path(name))
    return folder / architecture.path


def _read_config(
    source: Checkpoint, folder: Path, options: LoadOptions, architecture: Architecture
) -> Any:
    from transformers import AutoConfig

    overrides = {**architecture.config_kwargs, **options.config_kwargs}
    trusted = options.trust_remote_code
    with quiet_transformers(), _explained(source, "config.json", trusted):
        config = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trusted, **_code_source(source, trusted), **overrides
        )
    if options.model_kwargs.get("attn_implementation") is None and not trusted:
        stored = architecture.model_kwargs.get("attn_implementation")
        for name in (stored, config._attn_implementation):
            _refuse_kernels(source, name)
    return config


def own_code(source: Checkpoint) -> list[str]:
    """What config.json names as the model's own code: `file.Class`, or `repository--file.Class`."""
    named = source.architecture.config.get("auto_map")
    return sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []


def _code_source(source: Checkpoint, trusted: bool) -> dict[str, Any]:
    """How transformers may look for files: the folder alone, or also another repository's code."""
    if not trusted or not any("--" in name for name in own_code(source)):
        return {"local_files_only": True}
    asked = source.arguments
    return {
        "local_files_only": bool(asked.get("local_files_only", False)),
        "cache_dir": asked.get("cache_dir"),
    }


def _refuse_kernels(source: Checkpoint, name: Any) -> None:
    """Any other name is a repository that transformers would fetch native code from."""
    if name is not None and name not in ATTENTION_IMPLEMENTATIONS:
        mend = "Choose one yourself: model_kwargs={'attn_implementation': 'sdpa'}."
        if own_code(source):
            mend = (
                "It belongs to the model's own code, which config.json names: read that and pass "
                "trust_remote_code=True."
            )
        raise UnsupportedOperation(
            f"{source} asks for the attention implementation {name!r}, which is not one of "
            f"transformers' own. {mend}"
        )


def _from_pretrained(
    source: Checkpoint, file_name: str, folder: Path, arguments: dict[str, Any]
) -> torch.nn.Module:
    model_class = _model_class(arguments["config"])
    trusted = bool(arguments["trust_remote_code"])
    with quiet_transformers(), _explained(source, file_name, trusted):
        model, info = model_class.from_pretrained(
            str(folder),
            use_safetensors=".safetensors" in file_name,
            output_loading_info=True,
            **arguments,
        )
        check_missing(source, file_name, info["missing_keys"])
    module: torch.nn.Module = model
    return module


def _model_class(config: Any) -> Any:
    import transformers

    return getattr(transformers, _ENCODERS.get(config.model_type, "AutoModel"))


def _model_from_config(config: Any, trust_remote_code: bool) -> torch.nn.Module:
    model_class = _model_class(config)
    if model_class.__name__ == "AutoModel":
        built = model_class.from_config(config, trust_remote_code=trust_remote_code)
    else:
        built = model_class(config)
    module: torch.nn.Module = built
    return module


@contextmanager
def _explained(source: Checkpoint, file_name: str, trusted: bool) -> Iterator[None]:
    """Turn what transformers raises into errors that name the model and the mend."""
    try:
        yield
    except Exception as error:
        lacking = explain_surroundings(error)
        if lacking is not None:
            raise lacking from error
        if isinstance(error, CoreError) and (trusted or not own_code(source)):
            raise
        text = str(error).strip().split("\n")[0].split(" For details look at")[0]
        code = own_code(source)
        hint = ""
        if code and not trusted:
            hint = (
                f" config.json names model code of its own ({', '.join(code)}): if the model needs "
                "it, read it and pass trust_remote_code=True."
            )
        elif any("--" in name for name in code):
            hint = f" Its code is in another repository ({', '.join(code)}): is that reachable?"
        if "trust_remote_code" in str(error) and not trusted:
            raise UnsupportedOperation(
                f"{source} brings its own model code, which only runs with trust_remote_code=True. "
                "Read the code in its repository before you allow it."
            ) from error
        if "attn_implementation" in str(error) or "scaled_dot_product" in str(error):
            raise OptionError(f"{source}: {text}") from error
        if isinstance(error, CoreError):
            raise ModelFormatError(f"{error}{hint}") from error
        raise ModelFormatError(
            f"{source}: PyTorch cannot load {file_name}: {text}{hint}"
        ) from error


def _dtype_keyword() -> str:
    """transformers 4.56 renamed `torch_dtype` to `dtype`."""
    from transformers import __version__

    major, minor = (int(part) for part in __version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"
