"""What a model's author stored for the libraries that read it, as far as it is theirs to say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from core.files.source import Source

logger = logging.getLogger("core")

#: Fields of `Architecture`, and what the files call them. Of two the older counts, as in
#: sentence-transformers.
_NAMES = {
    "model_kwargs": ("model_args", "model_kwargs"),
    "config_kwargs": ("config_args", "config_kwargs"),
    "tokenizer_kwargs": ("tokenizer_args", "processor_kwargs"),
}
#: What a model's files do not get to decide: whether its code runs, where files come from, and what
#: else the libraries that read them are told by name rather than by configuration.
_CALLERS_OWN = frozenset(
    """
    trust_remote_code local_files_only cache_dir force_download resume_download token
    use_auth_token revision code_revision subfolder proxies mirror endpoint user_agent
    pretrained_model_name_or_path name_or_path config configuration_files gguf_file
    transformers_weights variant use_safetensors weights_only state_dict from_tf from_flax
    output_loading_info return_unused_kwargs ignore_mismatched_sizes key_mapping
    adapter_name adapter_kwargs quantization_config kernel_config use_kernels
    device_map max_memory offload_folder offload_buffers offload_state_dict tp_plan tp_size
    distributed_config generation_config auto_map auto_class backbone use_pretrained_backbone
    use_timm_backbone backbone_kwargs
    vocab vocab_file merges_file tokenizer_file spm_file source_spm target_spm bpe_codes_file
    sp_model_kwargs tokenizer_object tokenizer_type
    """.split()  # noqa: SIM905 - names read better without a hundred quotes
)
#: Many published models have these, and the reference leaves them out.
_KNOWN_TO_BE_LEFT_OUT = ("trust_remote_code", "device_map")


def stored_arguments(source: Source, transformer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`model_kwargs`, `config_kwargs` and `tokenizer_kwargs` of sentence_bert_config.json.

    Settings go through. Names of arguments that choose files, code or devices do not, nor those
    with an underscore in front, which libraries keep for themselves.
    """
    return {field: _stored(source, transformer, *names) for field, names in _NAMES.items()}


def _stored(source: Source, transformer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        stored = transformer.get(name)
        if not isinstance(stored, dict):
            continue
        left_out = [key for key in stored if key.startswith("_") or key in _CALLERS_OWN]
        told = [key for key in left_out if key not in _KNOWN_TO_BE_LEFT_OUT]
        if told:
            logger.warning(
                "%s: %s in its configuration holds %s, which a model's files do not decide here; "
                "ignored.",
                source,
                name,
                ", ".join(told),
            )
        return {key: value for key, value in stored.items() if key not in left_out}
    return {}
