"""Whether a model is told the texts of a pair apart by token types."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import tokenizers

from core.architecture.architecture import Architecture
from core.architecture.settings import positive_number
from core.files.source import Source
from core.tokenizer.settings import tokenizer_class

logger = logging.getLogger("core")

#: transformers' classes that give the texts of a pair no types, whatever tokenizer.json says.
_UNTYPED = (
    "BartTokenizer", "BarthezTokenizer", "BigBirdTokenizer", "CamembertTokenizer",
    "DistilBertTokenizer", "GemmaTokenizer", "GPT2Tokenizer", "LlamaTokenizer",
    "LongformerTokenizer", "MBartTokenizer", "MPNetTokenizer", "Qwen2Tokenizer",
    "RobertaTokenizer", "T5Tokenizer", "TokenizersBackend", "XLMRobertaTokenizer",
)  # fmt: skip
#: Those that do in transformers 4 and no longer in version 5.
_UNTYPED_NOW = (
    "AlbertTokenizer", "HerbertTokenizer", "PreTrainedTokenizerFast", "RemBertTokenizer",
    "RoFormerTokenizer", "XLNetTokenizer",
)  # fmt: skip
#: The class of a type of models, where no file names one.
_CLASSES = {
    "albert": "AlbertTokenizer",
    "big_bird": "BigBirdTokenizer",
    "distilbert": "DistilBertTokenizer",
    "nystromformer": "AlbertTokenizer",
    "rembert": "RemBertTokenizer",
    "roformer": "RoFormerTokenizer",
    "xlnet": "XLNetTokenizer",
}
#: Types of models that have two or more token types where config.json does not say how many.
_TYPED_MODELS = (
    "albert", "bert", "big_bird", "convbert", "electra", "ernie", "fnet", "layoutlm",
    "megatron-bert", "mobilebert", "nomic_bert", "nystromformer", "rembert", "roformer",
    "squeezebert", "xlnet",
)  # fmt: skip


def types_pairs(
    source: Source,
    tokenizer: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    architecture: Architecture,
) -> bool:
    """Whether the second text of a pair has a token type of its own.

    Where the tokenizer's class decides and transformers 5 decides otherwise than version 4, it is
    as in version 4, and a warning tells a reranker's user.
    """
    listed = settings.get("model_input_names")
    if isinstance(listed, list):
        return "token_type_ids" in listed and _has_types(architecture)
    kind = tokenizer_class(settings, architecture) or _CLASSES.get(architecture.model_type)
    if kind in _UNTYPED or not _has_types(architecture):
        return False
    asked = architecture.kind == "reranker" and kind in _UNTYPED_NOW
    if asked and any(tokenizer.encode("a", "a").type_ids):
        logger.warning(
            "%s: tokenizer_config.json does not say whether the texts of a pair have token types. "
            "They have in core, as with transformers 4; transformers 5 gives them none for the "
            "class %s: scores differ from those that it and sentence-transformers compute with it. "
            'Put "model_input_names" into tokenizer_config.json: ["input_ids", "attention_mask"] '
            'for none, with "token_type_ids" among them if the model was trained with types.',
            source,
            kind,
        )
    return True


def _has_types(architecture: Architecture) -> bool:
    if architecture.config.get("type_vocab_size") is None:
        return architecture.model_type in _TYPED_MODELS
    return (positive_number(architecture.config, "type_vocab_size") or 0) > 1
