"""config.json as transformers gets it: without what would send it to other files."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from core import Architecture, Checkpoint, LoadOptions
from core.errors import CoreError, ModelFormatError, OptionError, UnsupportedOperation
from core.toolkit import (
    LEADING_ELSEWHERE,
    SETTINGS_WITHOUT_EFFECT,
    check_sizes,
    clean_configuration,
    explain_surroundings,
    quiet_transformers,
)
from torch_backend.device import choose_dtype
from torch_backend.files import weight_files

logger = logging.getLogger("core")

#: What a model's own files may ask for; a caller may name any that transformers knows.
ATTENTION_IMPLEMENTATIONS = (
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flex_attention",
)

# A configuration may ask for another form of what is returned, and for more of it than embedding
# takes: memory, a slower attention, or an error where the architecture has no cache of that kind.
_RETURNED = {
    "return_dict": True,
    "torchscript": False,
    "output_hidden_states": False,
    "output_attentions": False,
    "use_cache": False,
}
#: What a model's author may ask the loading itself for.
_DTYPE_NAMES = ("dtype", "torch_dtype")
_STORED_OPTIONS = (*_DTYPE_NAMES, "attn_implementation")
#: What changes no embedding: the pooler serves other heads, and the rest is about loading.
_IGNORED_OPTIONS = ("add_pooling_layer", "low_cpu_mem_usage", "use_cache")


def read_config(
    source: Checkpoint,
    folder: Path,
    file_name: str,
    options: LoadOptions,
    architecture: Architecture,
) -> Any:
    """transformers' configuration object, which names no file.

    Args:
        folder: Where config.json is.
        file_name: The weights that will be loaded.
    """
    # A head has labels.
    ignored = SETTINGS_WITHOUT_EFFECT if architecture.head is None else ()
    stored = {k: v for k, v in architecture.config_kwargs.items() if k not in ignored}
    _check_names(source, architecture, stored)
    size = sum(source.path(name).stat().st_size for name in weight_files(source, file_name))
    where = f"{source}: {architecture.file('config.json')}"
    sizes = {k: v for k, v in architecture.config.items() if k not in ignored}
    check_sizes(where, {**sizes, **stored}, file_name, size)
    trusted = options.trust_remote_code
    arguments: dict[str, Any] = {
        "trust_remote_code": trusted,
        **code_source(source, trusted),
        **options.config_kwargs,
    }
    stored = {name: value for name, value in stored.items() if name not in arguments}
    with (
        quiet_transformers(),
        explained(source, "config.json", trusted),
        _clean(source, folder, trusted, ignored) as clean,
    ):
        config = _from_pretrained(clean, arguments)
        known = {name: value for name, value in stored.items() if _is_setting(config, name)}
        if known:
            config = _from_pretrained(clean, {**arguments, **known})
    unknown = sorted(stored.keys() - known.keys())
    if unknown:
        logger.warning(
            "%s: config_args in sentence_bert_config.json holds %s, which the configuration of "
            "%s does not have; ignored.",
            source,
            ", ".join(unknown),
            config.model_type,
        )
    _check_weights(source, file_name)
    _return_plainly(config)
    _attend_fully(source, architecture, config)
    for name in LEADING_ELSEWHERE:
        if name in config.__dict__:
            delattr(config, name)
    if options.model_kwargs.get("attn_implementation") is None and not trusted:
        _refuse_kernels(source, architecture.model_kwargs.get("attn_implementation"))
        for part in (config, *_parts(config)):
            _refuse_kernels(source, part._attn_implementation)
    return config


def stored_options(
    source: Checkpoint, architecture: Architecture, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Those options of the model's author that this backend takes; others are named.

    Args:
        given: The caller's own, which go before them.

    Raises:
        ModelFormatError: The dtype is none.
    """
    stored = architecture.model_kwargs
    unknown = sorted(stored.keys() - {*_STORED_OPTIONS, *_IGNORED_OPTIONS})
    if unknown:
        logger.warning(
            "%s: model_args in sentence_bert_config.json holds %s, which core does not pass on; "
            "ignored.",
            source,
            ", ".join(unknown),
        )
    kept = {name: stored[name] for name in _STORED_OPTIONS if name in stored}
    if any(given.get(name) is not None for name in _DTYPE_NAMES):
        kept = {name: value for name, value in kept.items() if name not in _DTYPE_NAMES}
    try:
        choose_dtype(kept)
    except OptionError as error:
        raise ModelFormatError(
            f"{source}: model_args in sentence_bert_config.json: {error} Mend it, or choose one "
            "yourself: model_kwargs={'dtype': 'float32'}."
        ) from error
    return kept


def _check_names(source: Checkpoint, architecture: Architecture, stored: Mapping[str, Any]) -> None:
    """What transformers looks up by its name is the name of something of its kind.

    Args:
        stored: What the model's author changes of config.json.
    """
    where = f"{source}: {architecture.file('config.json')}"
    content = {**architecture.config.get("outer", architecture.config), **stored}
    parts = {f"{n}: ": part for n, part in content.items() if n.endswith("_config")}
    for name, part in {"": content, **parts}.items():
        if not isinstance(part, Mapping):
            continue
        kind = part.get("model_type")
        if kind is not None and not isinstance(kind, str):
            raise ModelFormatError(f"{where}: {name}model_type is {kind!r}; it must be a text.")
        for key in _DTYPE_NAMES:
            value = part.get(key)
            if value is None or isinstance(value, Mapping):  # a dtype for each part
                continue
            dtype = getattr(torch, value, None) if isinstance(value, str) else None
            if not isinstance(dtype, torch.dtype):
                raise ModelFormatError(
                    f"{where}: {name}{key} is {value!r}; it must be the name of a dtype of "
                    "PyTorch, such as 'float32'."
                )


def _from_pretrained(folder: Path, arguments: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(folder), **arguments)


def _is_setting(config: Any, name: str) -> bool:
    """Whether a model's author may change it: an attribute of the configuration, not a method."""
    # Names that `from_pretrained` itself takes for the configuration's.
    if name in ("num_labels", "attn_implementation", "torch_dtype", "dtype", "output_attentions"):
        return True
    return hasattr(config, name) and not callable(getattr(config, name))


def _clean(
    source: Checkpoint, folder: Path, trusted: bool, without: Collection[str]
) -> AbstractContextManager[Path]:
    if trusted and own_code(source):  # which reads what it likes, and lies beside config.json
        return nullcontext(folder)
    return clean_configuration(source, source.architecture.file("config.json"), folder, without)


def _check_weights(source: Checkpoint, file_name: str) -> None:
    """Say so where config.json names other weights than those that are loaded."""
    content = source.architecture.config
    named = content.get("outer", content).get("transformers_weights")
    if named is not None and named != file_name.removeprefix(source.architecture.file("")):
        there = isinstance(named, str) and source.has(source.architecture.file(named))
        logger.warning(
            "%s: config.json names the weights %r, and %s is loaded.%s",
            source,
            named,
            file_name,
            f" To load those, pass file_name={named!r}." if there else "",
        )


def _parts(config: Any) -> Iterator[Any]:
    """Configurations inside a configuration."""
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if hasattr(part, "_attn_implementation"):
            yield part


def _return_plainly(config: Any) -> None:
    """Have the model return its last hidden state in the usual object, and nothing else."""
    parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", None) or ()]
    for part in (config, *(part for part in parts if part is not None)):
        for name, value in _RETURNED.items():
            if getattr(part, name, value) != value:
                setattr(part, name, value)


def _attend_fully(source: Checkpoint, architecture: Architecture, config: Any) -> None:
    """Compute BigBird's attention whole.

    transformers leaves blocks out for long texts until a short one comes, and never again: a text's
    embedding would depend on those before it.
    """
    if getattr(config, "attention_type", None) != "block_sparse":
        return
    config.attention_type = "original_full"
    least = (5 + 2 * config.num_random_blocks) * config.block_size
    if architecture.max_seq_length is None or architecture.max_seq_length > least:
        logger.warning(
            "%s: config.json asks for block_sparse attention, which transformers computes for "
            "texts of more than %d tokens until it is given a shorter one. core attends to every "
            "token of all texts, as transformers does from then on.",
            source,
            least,
        )


def attend_both_ways(source: Checkpoint, module: torch.nn.Module) -> None:
    """Have an encoder attend both ways in every batch, whatever `is_causal` of config.json says.

    transformers 5 hands it to layers that follow it only where no text of a batch is padded.
    """
    config: Any = getattr(module, "config", None)
    both_ways = any(getattr(part, "is_causal", None) is False for part in module.modules())
    if getattr(config, "is_causal", None) is not True or not both_ways:
        return
    delattr(config, "is_causal")
    logger.warning(
        "%s: config.json asks for causal attention of an architecture that attends both ways, "
        "which transformers does for texts without padding and not for others. core attends both "
        "ways.",
        source,
    )


def own_code(source: Checkpoint) -> list[str]:
    """What config.json names as the model's own code: `file.Class`, or `repository--file.Class`."""
    named = source.architecture.config.get("auto_map")
    return sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []


def code_source(source: Checkpoint, trusted: bool) -> dict[str, Any]:
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
        advice = "Choose one yourself: model_kwargs={'attn_implementation': 'sdpa'}."
        if own_code(source):
            advice = (
                "It belongs to the model's own code, which config.json names: read that and pass "
                "trust_remote_code=True."
            )
        raise UnsupportedOperation(
            f"{source} asks for the attention implementation {name!r}, which is not one of "
            f"transformers' own. {advice}"
        )


@contextmanager
def explained(source: Checkpoint, file_name: str, trusted: bool) -> Iterator[None]:
    """Turn what transformers raises into errors that name the model and the fix."""
    try:
        yield
    except Exception as error:
        lacking = explain_surroundings(error)
        if lacking is not None:
            raise lacking from error
        if isinstance(error, CoreError) and (trusted or not own_code(source)):
            raise
        if ".bin" in file_name and isinstance(error, pickle.UnpicklingError | EOFError):
            raise ModelFormatError(
                f"{source}: PyTorch cannot load {file_name}: it is damaged, or holds other things "
                "than weights, which may run code and are not loaded. Download or copy it again; a "
                "model that you trust can be saved anew, with PyTorch, as model.safetensors."
            ) from error
        first, *rest = str(error).strip().split("\n")
        if rest and first.endswith(":"):  # what is wrong stands below
            first = f"{first} {rest[0].strip()}"
        text = first.split(" For details look at")[0]
        if isinstance(error, KeyError):
            text = f"transformers knows no {text}"
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
        if "FlashAttention" in str(error):  # which its package or this machine lacks
            raise OptionError(
                f"{source}: {text} Choose another with "
                "model_kwargs={'attn_implementation': 'sdpa'}."
            ) from error
        if isinstance(error, CoreError):
            raise ModelFormatError(f"{error}{hint}") from error
        raise ModelFormatError(
            f"{source}: PyTorch cannot load {file_name}: {text}{hint}"
        ) from error
