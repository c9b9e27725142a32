"""From a checkpoint's files to a transformer.

A file is one of: the checkpoint's own weights (`model.safetensors`, `pytorch_model.bin`, whole or
in shards), a variant beside them (`model_fp16.safetensors`, `model_qint8.safetensors`), or a
compile configuration (`torch/model_compile.json`) that names weights and how to compile the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core import Architecture, Checkpoint, LoadOptions
from core.errors import ModelFormatError, OptionError
from core.toolkit import Scoring, check_safetensors, quiet_transformers, temporary_directory
from torch_backend.compiled import is_compiled_config, read_compiled_config
from torch_backend.configuration import code_source, explained, own_code, read_config
from torch_backend.encoders import check_encoder
from torch_backend.files import (
    DEFAULT_NAMES,
    QUANTIZATION,
    check_missing,
    check_shapes,
    check_uncompressed,
    read_metadata,
    stored_dtype,
    weight_files,
)
from torch_backend.heads import auto_class
from torch_backend.kernels.int8 import open_quantized

#: Encoder-decoder architectures of which only the encoder embeds.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
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
        UnsupportedOperation: It takes something else than texts, or gives no token embeddings.
        OptionError: The dtype or attention implementation cannot be used.
    """
    file_name = options.file_name or DEFAULT_NAMES[0]
    if is_compiled_config(file_name):
        compiled = read_compiled_config(source, file_name)
        inner = replace(options, file_name=compiled.weights)
        opened = open_transformer(source, architecture, inner, kwargs, dtype, on_cpu=on_cpu)
        return replace(
            opened, files=(file_name, *opened.files), compile_options=compiled.compile_options
        )
    if not file_name.endswith((".safetensors", ".bin", ".index.json")):
        raise OptionError(
            f"PyTorch reads .safetensors, .bin and their .index.json files, not {file_name!r}. "
            "Name one of those with file_name."
        )
    folder = _gather(source, architecture, file_name, options.trust_remote_code)
    config = read_config(source, folder, file_name, options, architecture)
    files = tuple(weight_files(source, file_name))
    metadata = read_metadata(source.path(file_name)) if file_name.endswith(".safetensors") else {}
    if QUANTIZATION in metadata:
        if dtype not in (None, "auto", torch.float32):
            raise OptionError(
                f"{file_name} holds int8 weights; dtype={dtype} cannot be applied to it."
            )
        with quiet_transformers(), explained(source, file_name, options.trust_remote_code):
            empty = _model_from_config(config, architecture, options.trust_remote_code)
        if architecture.head is None:
            check_encoder(source, empty)
        module = open_quantized(source, file_name, metadata[QUANTIZATION], empty)
        return OpenedTransformer(module, files, dtype="int8")
    is_default = file_name.rpartition("/")[2] in DEFAULT_NAMES
    if dtype is None or (dtype == "auto" and not is_default):
        if not is_default:  # a variant was written for its dtype, whatever config.json says
            whole = file_name.endswith(".safetensors")
            dtype = stored_dtype(source.path(file_name)) if whole else "auto"
        else:
            dtype = torch.float32 if on_cpu else "auto"
    arguments: dict[str, Any] = {
        "config": config,
        "trust_remote_code": options.trust_remote_code,
        **code_source(source, options.trust_remote_code),
        _dtype_keyword(): dtype,
    }
    if kwargs.get("attn_implementation") is not None:
        arguments["attn_implementation"] = kwargs["attn_implementation"]
    trusted = options.trust_remote_code and own_code(source)
    if is_default and (trusted or _is_found_by_transformers(source, architecture, file_name)):
        return OpenedTransformer(
            _from_pretrained(source, architecture, file_name, folder, arguments), files
        )
    with temporary_directory("core-torch-") as place:
        # transformers decides by itself which weights of a folder it loads: there are no others
        # here, and they have the name it looks for. It knows code by the name of its folder.
        alone = Path(place) / (folder.resolve().name or "model")
        alone.mkdir()
        _link(source, files, alone)
        if trusted:
            _link_code(source, architecture, alone)
        if architecture.head is not None:  # which a language model looks for, and fails without
            (alone / "generation_config.json").write_text("{}", encoding="utf-8")
        module = _from_pretrained(source, architecture, file_name, alone, arguments)
        return OpenedTransformer(module, files)


def _is_found_by_transformers(
    source: Checkpoint, architecture: Architecture, file_name: str
) -> bool:
    """Whether it takes just this file of the transformer's folder, told which of the formats."""
    folder, _, name = file_name.rpartition("/")
    alone = name.removesuffix(".index.json")  # what comes before an index
    others = {alone, "adapter_config.json"} - {name}  # with peft it follows the latter anywhere
    return folder == architecture.path and not any(
        source.has(architecture.file(other)) for other in others
    )


def _link(source: Checkpoint, files: Sequence[str], place: Path) -> None:
    """Links to a file of weights, under its default name, and to its shards."""
    first, *shards = files
    folder = first.rpartition("/")[0]
    kind = 0 if ".safetensors" in first else 2
    name = DEFAULT_NAMES[kind + first.endswith(".index.json")]
    for file in (first, *shards):
        link = place / (name if file == first else file.removeprefix(f"{folder}/"))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.path(file).resolve())


def _link_code(source: Checkpoint, architecture: Architecture, place: Path) -> None:
    """Links to a model's own code, where it stands in the transformer's folder."""
    start = architecture.file("")
    for name in source.names:
        if name.endswith(".py") and name.startswith(start):
            link = place / name.removeprefix(start)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.path(name).resolve())


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
        elif name.endswith(".bin"):
            check_uncompressed(source, name)
    return folder / architecture.path


def _from_pretrained(
    source: Checkpoint,
    architecture: Architecture,
    file_name: str,
    folder: Path,
    arguments: dict[str, Any],
) -> torch.nn.Module:
    model_class = _model_class(arguments["config"], architecture)
    trusted = bool(arguments["trust_remote_code"])
    with quiet_transformers(), explained(source, file_name, trusted):
        loaded = model_class.from_pretrained(
            str(folder),
            use_safetensors=".safetensors" in file_name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them; no model with any is let through
            **arguments,
        )
        if isinstance(loaded, tuple):
            model, info = loaded
        else:
            model, info = _loaded_by_itself(loaded, arguments[_dtype_keyword()])
        head = architecture.head
        if head is None:  # before weights that only another class of the architecture lacks
            check_encoder(source, model)
        mend = head.mend if isinstance(head, Scoring) else None
        check_shapes(source, file_name, info["mismatched_keys"], mend)
        check_missing(source, file_name, info["missing_keys"])
    module: torch.nn.Module = model
    return module


def _loaded_by_itself(model: Any, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """What a model's own code has loaded without transformers: it tells of no weights that it
    lacks, and may know no dtype."""
    converted = model.to(dtype) if isinstance(dtype, torch.dtype) else model
    return converted, {"mismatched_keys": (), "missing_keys": ()}


def _model_class(config: Any, architecture: Architecture) -> Any:
    import transformers

    usual = _ENCODERS.get(config.model_type, "AutoModel")
    return getattr(transformers, auto_class(architecture) or usual)


def _model_from_config(
    config: Any, architecture: Architecture, trust_remote_code: bool
) -> torch.nn.Module:
    model_class = _model_class(config, architecture)
    if model_class.__name__.startswith("AutoModel"):
        built = model_class.from_config(config, trust_remote_code=trust_remote_code)
    else:
        built = model_class(config)
    module: torch.nn.Module = built.float()  # config.json may state half precision
    return module


def _dtype_keyword() -> str:
    """transformers 4.56 renamed `torch_dtype` to `dtype`."""
    from transformers import __version__

    major, minor = (int(part) for part in __version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"
