"""What a checkpoint's configuration files say of its tokenizer: one mapping of settings.

Names and order are transformers': tokenizer_config.json, over it the older special_tokens_map.json
(read only where the first lists no added tokens), over both what the model's author stored in
sentence_bert_config.json.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.settings import flag
from core.errors import ModelFormatError
from core.files.source import Source

logger = logging.getLogger("core")

#: transformers' classes that say nothing of the tokenizer: all of it is in its files.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")
#: Settings that hold a token each, in the order in which transformers adds them.
SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
#: Settings with lists of tokens; the first that holds any counts.
TOKEN_LISTS = ("extra_special_tokens", "additional_special_tokens")
#: What else changes tokens, and is applied here.
_APPLIED = (
    "added_tokens_decoder",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
    "model_max_length",
    "max_len",
    "padding_side",
    "truncation_side",
    "split_special_tokens",
)
#: What says nothing about tokens: how a tokenizer is built, and what happens after it.
_NO_EFFECT = (
    "use_fast",
    "clean_up_tokenization_spaces",
    "tokenizer_class",
    "processor_class",
    "chat_template",
    "model_input_names",
    "padding",
    "truncation",
    "return_tensors",
    "verbose",
)
#: What only the conversion of older vocabularies reads.
_FOR_CONVERSION = (
    "do_basic_tokenize",
    "never_split",
    "legacy",
    "keep_accents",
    "remove_space",
    "lowercase",
    "extra_ids",
    "offset",
    "src_lang",
    "tgt_lang",
    "language_codes",
)
#: tokenizer_config.json's names of a BertNormalizer's settings.
_OF_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_settings(source: Source, architecture: Architecture) -> dict[str, Any]:
    """The settings of a checkpoint's tokenizer, by name. Static embeddings have none.

    Raises:
        ModelFormatError: A file is unreadable, or a token is not one.
    """
    if architecture.is_static:
        return {}  # sentence-transformers and model2vec read tokenizer.json alone
    stored = _read(source, architecture, "tokenizer_config.json")
    older = {}
    if "added_tokens_decoder" not in stored:
        older = _read(source, architecture, "special_tokens_map.json")
    _warn_of_unknown(source, architecture.tokenizer_kwargs)
    settings = {**stored, **older, **architecture.tokenizer_kwargs}
    for name in SPECIAL_TOKENS:
        value = settings.get(name)
        if value is not None and not _is_token(value):
            raise ModelFormatError(
                f"{source}: the tokenizer's {name} is {value!r}; it must be a string, or an object "
                "with the string 'content'."
            )
    return settings


def _read(source: Source, architecture: Architecture, name: str) -> dict[str, Any]:
    file = architecture.file(name)
    content: dict[str, Any] = source.read_json(file) if source.has(file) else {}
    return content


def _is_token(value: Any) -> bool:
    content = value.get("content") if isinstance(value, Mapping) else value
    return isinstance(content, str)


def _warn_of_unknown(source: Source, given: Mapping[str, Any]) -> None:
    known = {*TOKEN_LISTS, *_APPLIED, *_NO_EFFECT}
    unread = [name for name in given if name not in known and not name.endswith("_token")]
    if unread:
        logger.warning(
            "%s: the tokenizer's arguments in sentence_bert_config.json hold %s, which core does "
            "not read. If that changes its tokens, embeddings differ from sentence-transformers'.",
            source,
            ", ".join(map(repr, unread)),
        )


def bert_settings(source: Source, settings: Mapping[str, Any]) -> dict[str, bool | None]:
    """What the settings say of BERT's normalizer, under its own names.

    Raises:
        ModelFormatError: One is neither on nor off.
    """
    where = f"{source}: the tokenizer's settings"
    found: dict[str, bool | None] = {}
    for name, attribute in _OF_BERT.items():
        if name in settings:
            follows = name == "strip_accents" and settings[name] is None  # what lower-casing does
            found[attribute] = None if follows else flag(settings, where, name, False)
    return found


def tokenizer_class(settings: Mapping[str, Any], architecture: Architecture) -> str | None:
    """The class that tokenizer_config.json names, or config.json; without "Fast" at its end."""
    for given in (settings, architecture.config):
        name = given.get("tokenizer_class")
        if isinstance(name, str) and name:
            return name if name == "PreTrainedTokenizerFast" else name.removesuffix("Fast")
    return None


def names_own_code(settings: Mapping[str, Any], architecture: Architecture) -> bool:
    """Whether the tokenizer is a class that comes with the model."""
    for given in (settings, architecture.config):
        classes = given.get("auto_map")
        if isinstance(classes, Mapping) and classes.get("AutoTokenizer"):
            return True
        if given is settings and isinstance(classes, list) and classes:
            return True
    return False


def harmless(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may reach transformers: tokens, switches and lengths; no place of a file.

    transformers opens what `vocab`, `vocab_file` and other settings name, wherever it lies, and
    passes `sp_model_kwargs` and `init_inputs` on to libraries that do.
    """
    known = {*TOKEN_LISTS, *_APPLIED, *_NO_EFFECT, *_FOR_CONVERSION}
    return {k: v for k, v in settings.items() if k in known or k.endswith("_token")}
