"""The module chain of a checkpoint, from every dialect of its configuration files.

Formats are those of sentence-transformers 2 to 6 and of model2vec; docs/model-format.md lists
what is read and what is written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from core.architecture.architecture import SIMILARITIES, TRANSFORMER_CONFIGS, Architecture
from core.architecture.chain import Chain
from core.architecture.limits import hidden_size, position_limit
from core.architecture.module_files import read_module
from core.architecture.modules import Pooling
from core.architecture.settings import flag, stated_size
from core.architecture.stored import stored_arguments
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.paths import check_relative
from core.files.source import Source
from core.files.weights import WEIGHT_FILES

logger = logging.getLogger("core")

MODULE_CLASSES = (
    "Transformer",
    "StaticEmbedding",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "Dropout",
)


def read_architecture(source: Source, *, weights: bool = True) -> Architecture:
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
    if not static:
        _check_adapter(source, prefix)
    config = {} if static else _read_config(source, prefix)
    transformer = {} if static else _read_transformer(source, prefix)
    chain = Chain(source, hidden_size(config), static, "auto_map" in config)
    stored = stored_arguments(source, transformer)
    for name, path in entries[1:]:
        module = read_module(source, name, path, weights)
        if module is not None:
            chain.add(module, path)
    modules, hidden, dimension = chain.modules, chain.hidden, chain.dimension
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
        max_seq_length=_max_seq_length(
            source, prefix, transformer, config, static, stored["tokenizer_kwargs"]
        ),
        max_positions=position_limit(config),
        do_lower_case=flag(
            transformer, f"{source}: {prefix}{TRANSFORMER_CONFIGS[0]}", "do_lower_case", False
        ),
        model_kwargs=stored["model_kwargs"],
        config_kwargs=stored["config_kwargs"],
        tokenizer_kwargs=stored["tokenizer_kwargs"],
        **settings,
    )


def _read_settings(source: Source) -> dict[str, Any]:
    name = "config_sentence_transformers.json"
    content = source.read_json(name) if source.has(name) else {}
    kind = content.get("model_type")
    if kind not in (None, "SentenceTransformer"):
        raise UnsupportedOperation(
            f"{source} is a {kind}; core runs SentenceTransformer models (dense text embeddings)."
        )
    prompts = content.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        isinstance(v, str) or v is None for v in prompts.values()
    ):
        raise ModelFormatError(f"{source}: prompts in {name} must map names to strings.")
    prompts = {key: value or "" for key, value in prompts.items()}
    default = content.get("default_prompt_name")
    if default is not None and not isinstance(default, str):
        raise ModelFormatError(
            f"{source}: default_prompt_name in {name} is {default!r}; it must be a text or null."
        )
    if default is not None and default not in prompts:
        raise ModelFormatError(
            f"{source}: {name} names the default prompt {default!r}, which is not among its "
            f"prompts ({', '.join(sorted(prompts)) or 'none'})."
        )
    return {
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": _similarity(source, content.get("similarity_fn_name")),
        "truncate_dim": stated_size(content, f"{source}: {name}", "truncate_dim"),
    }


def _similarity(source: Source, stated: Any) -> str:
    """As sentence-transformers: what it has no name for (`cos_sim`, `maxsim`) means cosine."""
    if isinstance(stated, str) and stated in SIMILARITIES:
        return stated
    if stated:
        logger.warning(
            "%s: similarity_fn_name is %r, which is not one of %s: cosine is used, as "
            "sentence-transformers does. Set model.similarity_fn_name to choose another.",
            source,
            stated,
            ", ".join(SIMILARITIES),
        )
    return "cosine"


def _read_entries(source: Source) -> list[tuple[str, str]]:
    """(class name, path) of every module; a bare transformer counts as one without pooling."""
    if not source.has("modules.json"):
        if not source.has("config.json") and source.has("router_config.json"):
            raise _unsupported(source, "Router")
        if _is_model2vec(source):
            return [("StaticEmbedding", ""), *_model2vec_normalize(source)]
        _check_plain(source)
        return [("Transformer", "")]
    entries = source.read_json("modules.json", kind=list)
    if not entries:
        raise ModelFormatError(f"{source}: modules.json is empty.")
    parsed: list[tuple[str, str]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise ModelFormatError(
                f"{source}: modules.json has an entry without a type: {entry!r}."
            )
        path = entry.get("path", "")
        if not isinstance(path, str):
            raise ModelFormatError(f"{source}: modules.json has the path {path!r}.")
        check_relative(path, f"a module in modules.json of {source}")
        folder = PurePosixPath(path.replace("\\", "/")).as_posix()
        parsed.append((_module_class(source, entry["type"]), "" if folder == "." else folder))
    return parsed


def _check_plain(source: Source) -> None:
    """A directory without a module chain: not a cross encoder, and its pooling is a guess."""
    config = _read_config(source, "")
    if "sentence_transformers" in config and _first(config, "ForSequenceClassification"):
        raise UnsupportedOperation(
            f"{source} is a cross encoder, which scores pairs of texts; core embeds single texts."
        )
    if config:
        logger.warning(
            "%s has no modules.json, so nothing says how its token embeddings become one vector: "
            "%s pooling is assumed.",
            source,
            _default_pooling(config),
        )


def _check_adapter(source: Source, prefix: str) -> None:
    name = f"{prefix}adapter_config.json"
    whole = {
        f"{prefix}{weights}{index}" for weights in WEIGHT_FILES for index in ("", ".index.json")
    }
    if not source.has(name) or whole & set(source.names):
        return
    base = source.read_json(name).get("base_model_name_or_path")
    raise UnsupportedOperation(
        f"{source} is a PEFT adapter for {base!r}, not a whole model. Merge them where peft is "
        "installed (model.merge_and_unload(), then save_pretrained) and load the result."
    )


def _module_class(source: Source, kind: str) -> str:
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


def _unsupported(source: Source, name: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"{source} has a module of type {name}, which core does not run. It runs "
        f"{', '.join(MODULE_CLASSES)}."
    )


def _is_model2vec(source: Source) -> bool:
    if source.has("modules.json") or not source.has("config.json"):
        return False
    config = source.read_json("config.json")
    named = config.get("model_type") == "model2vec"
    return bool(named or config.get("architectures") == ["StaticModel"])


def _model2vec_normalize(source: Source) -> list[tuple[str, str]]:
    config = source.read_json("config.json")
    on = flag(config, f"{source}: config.json", "normalize", False)
    return [("Normalize", "")] if on else []


def _model2vec_length(source: Source) -> int | None:
    length = source.read_json("config.json").get("max_length", 512)  # model2vec's default
    return length if isinstance(length, int) and length > 0 else None


def _read_config(source: Source, prefix: str) -> dict[str, Any]:
    name = f"{prefix}config.json"
    if not source.has(name):
        return {}
    config: dict[str, Any] = source.read_json(name)
    nested = config.get("text_config")
    if "hidden_size" not in config and isinstance(nested, dict):
        config = {**nested, "architectures": config.get("architectures"), "outer": config}
    return config


def _read_transformer(source: Source, prefix: str) -> dict[str, Any]:
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
    if content.get("tokenizer_name_or_path"):
        raise UnsupportedOperation(
            f"{source}: {prefix}{name} takes its tokenizer from "
            f"{content['tokenizer_name_or_path']!r}; core reads only files of the model itself. "
            "Copy that tokenizer's files beside its config.json and remove the setting."
        )
    processing = content.get("processing_kwargs")
    if isinstance(processing, dict) and (processing.get("text") or processing.get("common")):
        raise UnsupportedOperation(
            f"{source}: processing_kwargs in {prefix}{name} change how texts become tokens "
            f"({processing!r}), which core does not apply. Set max_seq_length there for another "
            "length, and remove the others."
        )
    output = content.get("module_output_name") or "token_embeddings"
    if output != "token_embeddings":
        raise UnsupportedOperation(
            f"{source}: its transformer outputs {output!r}; core runs transformers that output "
            "token_embeddings."
        )
    return content


def _max_seq_length(
    source: Source,
    prefix: str,
    transformer: Mapping[str, Any],
    config: Mapping[str, Any],
    static: bool,
    tokenizer_kwargs: Mapping[str, Any],
) -> int | None:
    stated = stated_size(transformer, str(source), "max_seq_length")
    if static:
        return _model2vec_length(source) if _is_model2vec(source) else None
    own = tokenizer_kwargs.get("model_max_length")
    if isinstance(own, int) and own > 0:
        stated = own  # what the model's author gives the tokenizer itself comes first
    limits = [stated] if stated is not None else []
    if stated is None and source.has(f"{prefix}tokenizer_config.json"):
        tokenizer = source.read_json(f"{prefix}tokenizer_config.json")
        length = tokenizer.get("model_max_length", tokenizer.get("max_len"))
        if isinstance(length, int | float) and 0 < length < 1e9:  # 1e30 means "unknown"
            limits.append(int(length))
    positions = position_limit(config, hard=False)
    if positions:
        limits.append(positions)
    return min(limits, default=None)


def _default_pooling(config: Mapping[str, Any]) -> str:
    causal = _first(config, "ForCausalLM") and config.get("is_causal") is not False
    return "lasttoken" if causal else "mean"


def _first(config: Mapping[str, Any], ending: str) -> bool:
    """Whether the first of the architectures is named with this ending."""
    architectures = config.get("architectures")
    return bool(
        isinstance(architectures, list) and architectures and str(architectures[0]).endswith(ending)
    )
