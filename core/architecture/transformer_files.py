"""The transformer's own files, as every kind of model has them: config.json, the dialects of
sentence_bert_config.json, and what config_sentence_transformers.json says of the whole model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from core.architecture.architecture import SIMILARITIES, TRANSFORMER_CONFIGS
from core.architecture.limits import follows_history, position_limit
from core.architecture.settings import flag, stated_size
from core.architecture.stored import stored_arguments
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source
from core.files.weights import WEIGHT_FILES

logger = logging.getLogger("core")

#: How long a query and a document are, whatever `max_seq_length` says, by their task.
TASK_LENGTHS = ("query_length", "document_length", "query_expansion")

#: Of config_sentence_transformers.json, what changes results.
_WHOLE_SETTINGS = ("prompts", "similarity_fn_name", "truncate_dim", "max_active_dims")


def read_settings(
    source: Source,
    prompts: Mapping[str, str] | None = None,
    similarities: Sequence[str] = SIMILARITIES,
) -> dict[str, Any]:
    """What config_sentence_transformers.json says, as fields of `Architecture`.

    Args:
        prompts: Name to prompt, in the place of those in the file.
        similarities: The functions of its kind of model, the usual one first.
    """
    name = "config_sentence_transformers.json"
    content = read_whole_settings(source)
    prompts = prompts or content.get("prompts") or {}
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
        "similarity_fn_name": _similarity(source, content.get("similarity_fn_name"), similarities),
        "truncate_dim": stated_size(content, f"{source}: {name}", "truncate_dim"),
    }


def read_whole_settings(source: Source) -> dict[str, Any]:
    """config_sentence_transformers.json, which counts beside a modules.json, as in the reference.

    Without one a checkpoint is transformers' own, and a warning says that the file is left out.
    """
    name = "config_sentence_transformers.json"
    if not source.has(name):
        return {}
    content: dict[str, Any] = source.read_json(name)
    if source.has("modules.json"):
        return content
    if any(content.get(key) for key in _WHOLE_SETTINGS):
        logger.warning(
            "%s: %s is not read, as there is no modules.json: sentence-transformers reads neither "
            "prompts nor other settings of such a model. Give them as arguments, and save it.",
            source,
            name,
        )
    return {}


def _similarity(source: Source, stated: Any, known: Sequence[str]) -> str:
    """As sentence-transformers: what it has no name for (`cos_sim`, `maxsim`) means cosine, and of
    a multi-vector model MaxSim."""
    if isinstance(stated, str) and stated in known:
        return stated
    if stated and known is SIMILARITIES:
        logger.warning(
            "%s: similarity_fn_name is %r, which is not one of %s: cosine is used, as "
            "sentence-transformers does. Set model.similarity_fn_name to choose another.",
            source,
            stated,
            ", ".join(SIMILARITIES),
        )
    return known[0]


def check_adapter(source: Source, prefix: str) -> None:
    """Raise `UnsupportedOperation` for a PEFT adapter without its base model; of one beside whole
    weights, tell that it is not used."""
    name = f"{prefix}adapter_config.json"
    if not source.has(name):
        return
    whole = {
        f"{prefix}{weights}{index}" for weights in WEIGHT_FILES for index in ("", ".index.json")
    }
    adapters = [f"{prefix}adapter_model.{ending}" for ending in ("safetensors", "bin")]
    found = next((adapter for adapter in adapters if source.has(adapter)), None)
    if whole & set(source.names):
        if found is not None:
            logger.warning(
                "%s: %s is a PEFT adapter beside whole weights, which are used without it; "
                "sentence-transformers adds it where peft is installed. If they do not hold it "
                "yet, merge it into them (model.merge_and_unload(), then save_pretrained); if they "
                "do, remove %s.",
                source,
                found,
                name,
            )
        return
    base = source.read_json(name).get("base_model_name_or_path")
    raise UnsupportedOperation(
        f"{source} is a PEFT adapter for {base!r}, not a whole model. Merge them where peft is "
        "installed (model.merge_and_unload(), then save_pretrained) and load the result."
    )


def read_config(source: Source, prefix: str) -> dict[str, Any]:
    """config.json, its `text_config` in its place if it has one; empty where there is none."""
    name = f"{prefix}config.json"
    if not source.has(name):
        return {}
    config: dict[str, Any] = source.read_json(name)
    nested = config.get("text_config")
    if "hidden_size" not in config and isinstance(nested, dict):
        config = {**nested, "architectures": config.get("architectures"), "outer": config}
    return config


def transformer_config(source: Source, prefix: str) -> tuple[str, dict[str, Any]]:
    """The name of sentence_bert_config.json in its dialect, and what is in it."""
    for name in TRANSFORMER_CONFIGS:
        if source.has(prefix + name):
            content: dict[str, Any] = source.read_json(prefix + name)
            return name, content
    return TRANSFORMER_CONFIGS[0], {}


def transformer_task(source: Source, prefix: str) -> str:
    """What the transformer is built for, sentence-transformers' `transformer_task`."""
    _, content = transformer_config(source, prefix)
    return str(content.get("transformer_task") or "feature-extraction")


def read_transformer(
    source: Source,
    prefix: str,
    outputs: Sequence[str] = ("token_embeddings",),
    *,
    templates: bool = False,
    task_lengths: bool = False,
) -> dict[str, Any]:
    """What sentence_bert_config.json says, checked.

    Args:
        outputs: What the transformer may give (`module_output_name`), the usual one first.
        templates: Whether the kind of model has a place for a chat template.
        task_lengths: Whether it has lengths of queries and of documents.

    Raises:
        UnsupportedOperation: It asks for what is not done here.
    """
    name, content = transformer_config(source, prefix)
    modalities = content.get("modality_config")
    if isinstance(modalities, dict) and "text" not in modalities:
        raise UnsupportedOperation(
            f"{source} embeds {', '.join(map(str, modalities))}; core embeds text."
        )
    if isinstance(modalities, dict):
        _check_modalities(source, f"{prefix}{name}", modalities, templates)
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
    lengths = [key for key in TASK_LENGTHS if content.get(key) is not None]
    if lengths and not task_lengths:
        raise UnsupportedOperation(
            f"{source}: {prefix}{name} has {', '.join(lengths)}: queries and documents of lengths "
            "of their own, which core has for multi-vector models alone. Remove the setting to "
            "read both up to max_seq_length."
        )
    output = content.get("module_output_name") or outputs[0]
    if output not in outputs:
        raise UnsupportedOperation(
            f"{source}: its transformer outputs {output!r}; core runs transformers that output "
            f"{' or '.join(outputs)}."
        )
    return content


#: What the transformers that core runs are asked for, by their method `forward`.
_MODEL_OUTPUTS = ("last_hidden_state", "logits")


def _check_modalities(
    source: Source, name: str, modalities: Mapping[str, Any], templates: bool
) -> None:
    """Refuse what would make other embeddings of a text than the transformer's last layer."""
    if "message" in modalities and not templates:
        raise UnsupportedOperation(
            f"{source} puts texts into its tokenizer's chat template (modality_config in {name}), "
            "which core does for rerankers alone: sentence-transformers does it for every kind."
        )
    for modality in ("text", "message"):
        entry = modalities.get(modality)
        entry = entry if isinstance(entry, Mapping) else {}
        method, output = entry.get("method", "forward"), entry.get("method_output_name")
        if isinstance(output, list) and len(output) == 1:
            output = output[0]
        if method != "forward" or output not in (None, *_MODEL_OUTPUTS):
            raise UnsupportedOperation(
                f"{source}: {name} takes {output!r} of the transformer's {method!r} for a "
                f"{modality}; core runs transformers whose 'forward' gives "
                f"{' or '.join(_MODEL_OUTPUTS)}."
            )


def read_limits(
    source: Source,
    prefix: str,
    transformer: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    static: bool = False,
) -> dict[str, Any]:
    """How texts are read, and what is handed to libraries, as fields of `Architecture`."""
    stored = stored_arguments(source, transformer)
    named = f"{source}: {prefix}{TRANSFORMER_CONFIGS[0]}"
    return {
        "max_seq_length": _max_seq_length(
            source, prefix, transformer, config, static, stored["tokenizer_kwargs"]
        ),
        "max_positions": position_limit(config),
        "do_lower_case": flag(transformer, named, "do_lower_case", False),
        **stored,
    }


def _max_seq_length(
    source: Source,
    prefix: str,
    transformer: Mapping[str, Any],
    config: Mapping[str, Any],
    static: bool,
    tokenizer_kwargs: Mapping[str, Any],
) -> int | None:
    """How many tokens a text may have by its files, special ones included; None for any number."""
    stated = stated_size(transformer, str(source), "max_seq_length")
    if static:
        return _model2vec_length(source) if is_model2vec(source) else None
    own = tokenizer_kwargs.get("model_max_length")
    if isinstance(own, int) and own > 0:
        stated = own  # what the model's author gives the tokenizer itself comes first
    limits = [stated] if stated is not None else []
    if stated is None and source.has(f"{prefix}tokenizer_config.json"):
        tokenizer = source.read_json(f"{prefix}tokenizer_config.json")
        length = tokenizer.get("model_max_length", tokenizer.get("max_len"))
        if isinstance(length, int | float) and 0 < length < 1e9:  # 1e30 means "unknown"
            limits.append(int(length))
    # A stated length may be more than a model with computed positions was made for.
    grows = follows_history(config)
    positions = position_limit(config, hard=stated is not None and not grows)
    if positions:
        limits.append(positions)
    if grows and stated is not None and positions and stated > positions:
        logger.warning(
            "%s: texts are cut at %d tokens, not at %d: past its max_position_embeddings, dynamic "
            "rotary positions depend on the longest text so far.",
            source,
            positions,
            stated,
        )
    return min(limits, default=None)


def is_model2vec(source: Source) -> bool:
    """Whether a checkpoint is a table in model2vec's layout."""
    if source.has("modules.json") or not source.has("config.json"):
        return False
    config = source.read_json("config.json")
    named = config.get("model_type") == "model2vec"
    return bool(named or config.get("architectures") == ["StaticModel"])


def model2vec_normalize(source: Source) -> list[tuple[str, str]]:
    """The module that model2vec's `normalize` stands for, if it is on."""
    config = source.read_json("config.json")
    on = flag(config, f"{source}: config.json", "normalize", False)
    return [("Normalize", "")] if on else []


def _model2vec_length(source: Source) -> int | None:
    length = source.read_json("config.json").get("max_length", 512)  # model2vec's default
    return length if isinstance(length, int) and length > 0 else None


def is_first(config: Mapping[str, Any], ending: str) -> bool:
    """Whether the first of the architectures is named with this ending."""
    architectures = config.get("architectures")
    return bool(
        isinstance(architectures, list) and architectures and str(architectures[0]).endswith(ending)
    )
