"""The module chain of a checkpoint, from every dialect of its configuration files.

Formats are those of sentence-transformers 2 to 6 and of model2vec; docs/model-format.md lists
what is read and what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.checkpoint import Checkpoint, check_relative
from core.errors import ModelFormatError, UnsupportedOperation
from core.modules import (
    ACTIVATIONS,
    POOLING_MODES,
    Dense,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
)
from core.weights import Tensors, read_weights

#: Older names of sentence_bert_config.json, all of the same content.
TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
MODULE_CLASSES = (
    "Transformer",
    "StaticEmbedding",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "Dropout",
)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# These place the first token at position padding_idx + 1 (transformers' create_position_ids).
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint computes.

    Attributes:
        path: Where the transformer (or static embedding) lies, relative to the checkpoint; ""
            for its top.
        is_static: A table of token embeddings instead of a transformer.
        entries: (class, folder) of every module as modules.json lists them, the transformer first.
        modules: What follows the transformer, in order.
        config: The transformer's config.json, its `text_config` in its place if it has one.
        hidden_size: Width of a token embedding; 0 where no file tells.
        dimension: Width of a sentence embedding; 0 where no file tells.
        max_seq_length: In tokens, special ones included; None for no limit.
        do_lower_case: Lower-case every text before tokenizing.
        model_kwargs: Load options the model's author stored (`model_args`).
        config_kwargs: Likewise (`config_args`).
        tokenizer_kwargs: Likewise (`tokenizer_args`).
        prompts: Name to prompt.
        default_prompt_name: Which of them to use unless told otherwise.
        similarity_fn_name: Of `SIMILARITIES`.
        truncate_dim: Leading dimensions to keep, or None.
    """

    path: str
    is_static: bool
    entries: tuple[tuple[str, str], ...]
    modules: tuple[Module, ...]
    config: Mapping[str, Any]
    hidden_size: int
    dimension: int
    max_seq_length: int | None = None
    do_lower_case: bool = False
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str = "cosine"
    truncate_dim: int | None = None

    def file(self, name: str) -> str:
        """The checkpoint-relative name of a file beside the transformer."""
        return f"{self.path}/{name}" if self.path else name

    @property
    def model_type(self) -> str:
        """transformers' name of the architecture ("bert", "modernbert", ...), or ""."""
        return str(self.config.get("model_type", ""))


def read_architecture(source: Checkpoint, *, weights: bool = True) -> Architecture:
    """Parse the configuration files of a checkpoint.

    Without `weights` no weight file is opened (or downloaded): the small modules' tensors have
    their shapes and hold zeros.

    Raises:
        ModelFormatError: Missing or unreadable files, or a path out of the directory.
        UnsupportedOperation: Modules that are not run here, by name.
    """
    settings = _read_settings(source)
    entries = _read_entries(source)
    first_class, first_path = entries[0]
    if first_class not in ("Transformer", "StaticEmbedding"):
        raise ModelFormatError(
            f"{source}: the first module of modules.json is {first_class}; it must be a "
            "Transformer or a StaticEmbedding."
        )
    static = first_class == "StaticEmbedding"
    prefix = f"{first_path}/" if first_path else ""
    config = {} if static else _read_config(source, prefix)
    transformer = {} if static else _read_transformer(source, prefix)
    hidden = int(_number(config, "hidden_size", "d_model", "dim", "n_embd") or 0)

    modules: list[Module] = []
    dimension = hidden
    for name, path in entries[1:]:
        module = _read_module(source, name, path, weights)
        if module is None:
            continue
        if isinstance(module, Pooling):
            hidden = hidden or _pooling_width(source, path)
            dimension = hidden * len(module.modes)
        elif isinstance(module, Dense) and module.output_name == "sentence_embedding":
            dimension = module.out_features
        elif isinstance(module, Dense):
            hidden = module.out_features
        modules.append(module)
    if not static and not any(isinstance(m, Pooling) for m in modules):
        modules.insert(0, Pooling(modes=(_default_pooling(config),)))
        entries.insert(1, ("Pooling", ""))
        dimension = dimension or hidden
    return Architecture(
        path=first_path,
        is_static=static,
        entries=tuple(entries),
        modules=tuple(modules),
        config=config,
        hidden_size=hidden,
        dimension=dimension,
        max_seq_length=_max_seq_length(source, prefix, transformer, config, static),
        do_lower_case=bool(transformer.get("do_lower_case", False)),
        model_kwargs=_stored(transformer, "model_kwargs", "model_args"),
        config_kwargs=_stored(transformer, "config_kwargs", "config_args"),
        tokenizer_kwargs=_stored(transformer, "processor_kwargs", "tokenizer_args"),
        **settings,
    )


def _read_settings(source: Checkpoint) -> dict[str, Any]:
    name = "config_sentence_transformers.json"
    content = source.read_json(name) if source.has(name) else {}
    kind = content.get("model_type")
    if kind not in (None, "SentenceTransformer"):
        raise UnsupportedOperation(
            f"{source} is a {kind}; core runs SentenceTransformer models (dense text embeddings)."
        )
    prompts = content.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in prompts.items()
    ):
        raise ModelFormatError(f"{source}: prompts in {name} must map names to strings.")
    default = content.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelFormatError(
            f"{source}: {name} names the default prompt {default!r}, which is not among its "
            f"prompts ({', '.join(sorted(prompts)) or 'none'})."
        )
    similarity = content.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise ModelFormatError(
            f"{source}: similarity_fn_name in {name} is {similarity!r}; known are "
            f"{', '.join(SIMILARITIES)}."
        )
    truncate = content.get("truncate_dim")
    if truncate is not None and (not isinstance(truncate, int) or truncate < 1):
        raise ModelFormatError(f"{source}: truncate_dim in {name} is {truncate!r}.")
    return {
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": similarity,
        "truncate_dim": truncate,
    }


def _read_entries(source: Checkpoint) -> list[tuple[str, str]]:
    """(class name, path) of every module; a bare transformer counts as one without pooling."""
    if not source.has("modules.json"):
        if not source.has("config.json") and source.has("router_config.json"):
            raise _unsupported(source, "Router")
        if _is_model2vec(source):
            return [("StaticEmbedding", ""), *_model2vec_normalize(source)]
        return [("Transformer", "")]
    entries = source.read_json("modules.json", kind=list)
    if not entries:
        raise ModelFormatError(f"{source}: modules.json is empty.")
    parsed = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise ModelFormatError(
                f"{source}: modules.json has an entry without a type: {entry!r}."
            )
        path = entry.get("path", "")
        if not isinstance(path, str):
            raise ModelFormatError(f"{source}: modules.json has the path {path!r}.")
        check_relative(path, f"a module in modules.json of {source}")
        parsed.append((_module_class(source, entry["type"]), path.replace("\\", "/").strip("/")))
    return parsed


def _module_class(source: Checkpoint, kind: str) -> str:
    package, _, name = kind.rpartition(".")
    if package.split(".")[0] != "sentence_transformers":
        raise UnsupportedOperation(
            f"{source}: modules.json names {kind!r}, code that comes with the model. core never "
            "runs custom modules, with or without trust_remote_code; it runs "
            f"{', '.join(MODULE_CLASSES)}."
        )
    if name not in MODULE_CLASSES:
        raise _unsupported(source, name)
    return name


def _unsupported(source: Checkpoint, name: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"{source} has a module of type {name}, which core does not run. It runs "
        f"{', '.join(MODULE_CLASSES)}."
    )


def _is_model2vec(source: Checkpoint) -> bool:
    if source.has("modules.json") or not source.has("config.json"):
        return False
    config = source.read_json("config.json")
    named = config.get("model_type") == "model2vec"
    return bool(named or config.get("architectures") == ["StaticModel"])


def _model2vec_normalize(source: Checkpoint) -> list[tuple[str, str]]:
    return [("Normalize", "")] if source.read_json("config.json").get("normalize") else []


def _model2vec_length(source: Checkpoint) -> int | None:
    length = source.read_json("config.json").get("max_length", 512)  # model2vec's default
    return length if isinstance(length, int) and length > 0 else None


def _read_config(source: Checkpoint, prefix: str) -> dict[str, Any]:
    name = f"{prefix}config.json"
    if not source.has(name):
        return {}
    config: dict[str, Any] = source.read_json(name)
    nested = config.get("text_config")
    if "hidden_size" not in config and isinstance(nested, dict):
        config = {**nested, "architectures": config.get("architectures"), "outer": config}
    return config


def _read_transformer(source: Checkpoint, prefix: str) -> dict[str, Any]:
    for name in TRANSFORMER_CONFIGS:
        if source.has(prefix + name):
            content: dict[str, Any] = source.read_json(prefix + name)
            break
    else:
        return {}
    modalities = content.get("modality_config")
    if isinstance(modalities, dict) and "text" not in modalities:
        raise UnsupportedOperation(
            f"{source} embeds {', '.join(map(str, modalities))}; core embeds text."
        )
    output = content.get("module_output_name") or "token_embeddings"
    if output != "token_embeddings":
        raise UnsupportedOperation(
            f"{source}: its transformer outputs {output!r}; core runs transformers that output "
            "token_embeddings."
        )
    return content


def _stored(transformer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        stored = transformer.get(name)
        if isinstance(stored, dict):
            # A model does not get to trust itself.
            return {k: v for k, v in stored.items() if k != "trust_remote_code"}
    return {}


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _max_seq_length(
    source: Checkpoint,
    prefix: str,
    transformer: Mapping[str, Any],
    config: Mapping[str, Any],
    static: bool,
) -> int | None:
    stated = transformer.get("max_seq_length")
    if stated is not None and (not isinstance(stated, int) or stated < 1):
        raise ModelFormatError(f"{source}: max_seq_length is {stated!r}; it must be 1 or more.")
    if static:
        return _model2vec_length(source) if _is_model2vec(source) else None
    limits = [stated] if stated is not None else []
    if stated is None and source.has(f"{prefix}tokenizer_config.json"):
        tokenizer = source.read_json(f"{prefix}tokenizer_config.json")
        length = tokenizer.get("model_max_length", tokenizer.get("max_len"))
        if isinstance(length, int | float) and 0 < length < 1e9:  # 1e30 means "unknown"
            limits.append(int(length))
    positions = _number(config, "max_position_embeddings", "n_positions", "max_sequence_length")
    if config.get("model_type") in _OFFSET_POSITIONS and positions:
        positions -= int(config.get("pad_token_id") or 0) + 1
    # T5's and XLNet's positions are relative: their n_positions is no limit.
    if positions and config.get("model_type") not in ("t5", "mt5", "umt5", "xlnet"):
        limits.append(positions)
    return min(limits, default=None)


def _default_pooling(config: Mapping[str, Any]) -> str:
    architectures = config.get("architectures") or [""]
    causal = str(architectures[0]).endswith("ForCausalLM") and config.get("is_causal") is not False
    return "lasttoken" if causal else "mean"


def _read_module(source: Checkpoint, name: str, path: str, weights: bool) -> Module | None:
    if name == "Pooling":
        return _read_pooling(source, path)
    if name == "Normalize":
        return Normalize()
    if name == "Dense":
        return _read_dense(source, path, weights)
    if name == "LayerNorm":
        return _read_layer_norm(source, path, weights)
    if name == "Dropout":
        return None
    raise ModelFormatError(f"{source}: {name} can only be the first module.")


def _module_config(source: Checkpoint, path: str) -> dict[str, Any]:
    name = f"{path}/config.json" if path else "config.json"
    if not source.has(name):
        raise ModelFormatError(
            f"{source}: modules.json names the folder {path!r}, but {name} is missing."
        )
    content: dict[str, Any] = source.read_json(name)
    return content


def _pooling_width(source: Checkpoint, path: str) -> int:
    config = _module_config(source, path)
    return _number(config, "embedding_dimension", "word_embedding_dimension") or 0


def _read_pooling(source: Checkpoint, path: str) -> Pooling:
    config = _module_config(source, path)
    modes = config.get("pooling_mode")
    if modes is None:
        # Legacy: a mode is on when its flag says so; with no flag at all, the old default.
        flags = {
            "cls": "pooling_mode_cls_token",
            "max": "pooling_mode_max_tokens",
            "mean": "pooling_mode_mean_tokens",
            "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
            "weightedmean": "pooling_mode_weightedmean_tokens",
            "lasttoken": "pooling_mode_lasttoken",
        }
        modes = [mode for mode, flag in flags.items() if config.get(flag)] or ["mean"]
    if isinstance(modes, str):
        modes = [modes]
    unknown = [m for m in modes if m not in POOLING_MODES] if isinstance(modes, list) else [modes]
    if unknown or not modes:
        raise ModelFormatError(
            f"{source}: {path}/config.json has the pooling mode {unknown or modes!r}; known are "
            f"{', '.join(POOLING_MODES)}."
        )
    return Pooling(modes=tuple(modes), include_prompt=config.get("include_prompt", True) is True)


def _read_layer_norm(source: Checkpoint, path: str, weights: bool) -> LayerNorm:
    if not weights:
        width = _number(_module_config(source, path), "dimension") or 0
        return LayerNorm(_zeros(width), _zeros(width))
    tensors = _module_weights(source, path)
    weight = _tensor(source, path, tensors, "norm.weight")
    return LayerNorm(weight, _tensor(source, path, tensors, "norm.bias", weight.shape))


def _read_dense(source: Checkpoint, path: str, weights: bool) -> Dense:
    config = _module_config(source, path)
    kind = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, activation = kind.rpartition(".")
    if package.split(".")[0] != "torch" or activation not in ACTIVATIONS:
        raise UnsupportedOperation(
            f"{source}: {path} uses the activation {kind!r}; known are torch's "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    shape = [_number(config, name) or 0 for name in ("out_features", "in_features")]
    tensors = _module_weights(source, path) if weights else {}
    weight = _tensor(source, path, tensors, "linear.weight") if weights else _zeros(*shape)
    if weight.ndim != 2:
        raise ModelFormatError(f"{source}: linear.weight of {path} has shape {weight.shape}.")
    outputs = weight.shape[:1]
    bias = None
    if config.get("bias", True) and weights:
        bias = _tensor(source, path, tensors, "linear.bias", outputs)
    residual = None
    use_residual = bool(config.get("use_residual", False))
    if use_residual and weights and weight.shape[0] != weight.shape[1]:
        residual = _tensor(source, path, tensors, "residual.weight", weight.shape)
    given = str(config.get("module_input_name") or "sentence_embedding")
    made = str(config.get("module_output_name") or given)
    known = ("sentence_embedding", "token_embeddings")
    if given not in known or made not in known:
        raise UnsupportedOperation(
            f"{source}: {path} maps {given!r} to {made!r}; known are {', '.join(known)}."
        )
    return Dense(weight, bias, activation, given, made, use_residual, residual)


def _zeros(*shape: int) -> Any:
    return np.broadcast_to(np.float32(0), shape)  # no memory, whatever the file claims


def _module_weights(source: Checkpoint, path: str) -> Tensors:
    for name in ("model.safetensors", "pytorch_model.bin"):
        full = f"{path}/{name}" if path else name
        if source.has(full):
            return read_weights(source.path(full))
    raise ModelFormatError(
        f"{source}: the weights of module {path!r} are missing: neither model.safetensors nor "
        "pytorch_model.bin is in that folder."
    )


def _tensor(
    source: Checkpoint,
    path: str,
    weights: Tensors,
    name: str,
    shape: tuple[int, ...] | None = None,
) -> Any:
    if name not in weights:
        raise ModelFormatError(
            f"{source}: the weights of {path!r} hold no {name!r}, only "
            f"{', '.join(sorted(weights))}."
        )
    tensor = weights[name]
    if shape is not None and tensor.shape != shape:
        raise ModelFormatError(
            f"{source}: {name} of {path!r} has shape {tensor.shape}; its configuration asks for "
            f"{shape}."
        )
    return np.ascontiguousarray(tensor, dtype=np.float32)
