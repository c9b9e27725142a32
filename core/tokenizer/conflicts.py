"""Where tokenizer_config.json says otherwise than the tokenizer.json beside it.

transformers 5 builds the tokenizers of some classes anew, by these settings and where they say
nothing by defaults of the class; its version 4 and this package keep what tokenizer.json does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import tokenizers
import tokenizers.models
import tokenizers.normalizers
import tokenizers.pre_tokenizers
from tokenizers import Regex

from core.files.source import Source

logger = logging.getLogger("core")

_ENDS = (
    "BertTokenizer", "BigBirdTokenizer", "DebertaV2Tokenizer", "DistilBertTokenizer",
    "MPNetTokenizer", "RemBertTokenizer", "RobertaTokenizer",
)  # fmt: skip
#: Setting to the classes of transformers that follow it.
_FOLLOWED = {
    "cls_token": _ENDS,
    "sep_token": _ENDS,
    "do_lower_case": (
        "AlbertTokenizer", "DebertaV2Tokenizer", "RemBertTokenizer", "XLNetTokenizer",
    ),
    "keep_accents": ("AlbertTokenizer", "RemBertTokenizer"),
    "add_prefix_space": (
        "AlbertTokenizer", "BarthezTokenizer", "BigBirdTokenizer", "CamembertTokenizer",
        "RemBertTokenizer", "XLMRobertaTokenizer",
    ),
}  # fmt: skip
#: Classes that put tokens of their own around a text even where tokenizer.json puts none there.
_OWN_ENDS = (
    "BertTokenizer", "BigBirdTokenizer", "CamembertTokenizer", "DebertaTokenizer",
    "DebertaV2Tokenizer", "DistilBertTokenizer", "ElectraTokenizer", "FunnelTokenizer",
    "MPNetTokenizer", "PegasusTokenizer", "RobertaTokenizer", "T5Tokenizer",
    "XLMRobertaTokenizer", "XLNetTokenizer",
)  # fmt: skip
#: Classes with BERT's normalizer, which version 4 builds anew, too; and those of model types.
_BERT_LIKE = (
    "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "FunnelTokenizer",
    "MPNetTokenizer",
)  # fmt: skip
_CLASSES = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
#: Classes that cut words as GPT-2 does, in both versions by their setting `add_prefix_space`.
BYTE_LEVEL = ("BartTokenizer", "GPT2Tokenizer", "LongformerTokenizer", "RobertaTokenizer")
#: Classes of sentencepiece's vocabularies, of whose normalizers they keep the map of characters.
_PIECES = ("CamembertTokenizer", "T5Tokenizer", "XLMRobertaTokenizer")
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: What BERT's normalizer may change: a capital, an accent, a Chinese character.
_SAMPLE = "A\u00e9\u673a"
#: Words, digits and marks: letters that every character map leaves alone.
_WORDS = "An air-raid's 12... B a"
_DIFFERENT = (
    "embeddings differ from those that it and sentence-transformers make with it. To have its "
    "tokens here as well, load the tokenizer with transformers and save it into the model."
)


def warn_of_conflicts(
    source: Source,
    tokenizer: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    kind: str,
    model_type: str,
) -> None:
    """Name what tokenizers of the class `kind` do and this one does not.

    Args:
        kind: "" where no file names a class; the model's type does then.
    """
    kind = kind or _CLASSES.get(model_type, "")
    done = _what_it_does(tokenizer)
    for name, classes in _FOLLOWED.items():
        stated = settings.get(name)
        stated = stated.get("content") if isinstance(stated, Mapping) else stated
        if kind not in classes or stated is None or done.get(name) in (None, stated):
            continue
        logger.warning(
            "%s: tokenizer_config.json has %s=%r, and tokenizer.json does %r, which core keeps. "
            "transformers 5 follows the former for a %s: embeddings differ from those that it and "
            "sentence-transformers make with it. Correct whichever is wrong.",
            source,
            name,
            stated,
            done[name],
            kind,
        )
    if kind in _OWN_ENDS and not done["ends"]:
        logger.warning(
            "%s: tokenizer.json puts no tokens around a text, which core keeps. transformers 5 "
            "puts those of its %s there: %s",
            source,
            kind,
            _DIFFERENT,
        )
    if kind in _BERT_LIKE and isinstance(tokenizer.model, tokenizers.models.WordPiece):
        usual = _bert_normalizer(settings).normalize_str(_SAMPLE)
        found = tokenizer.normalizer
        made = _SAMPLE if found is None else found.normalize_str(_SAMPLE)
        if made != usual:
            logger.warning(
                "%s: tokenizer.json's normalizer makes %r of %r, which core keeps. transformers "
                "gives its %s one that makes %r (do_lower_case and tokenize_chinese_chars are true "
                "where tokenizer_config.json does not say otherwise): %s",
                source,
                made,
                _SAMPLE,
                kind,
                usual,
                _DIFFERENT,
            )

    expected = _pieces(_splitter(kind, settings, tokenizer.normalizer))
    found = _pieces((tokenizer.normalizer, tokenizer.pre_tokenizer))
    if expected is not None and found != expected:
        logger.warning(
            "%s: tokenizer.json cuts %r into %r, which core keeps. transformers 5 has its %s cut "
            "it into %r: %s",
            source,
            _WORDS,
            found,
            kind,
            expected,
            _DIFFERENT,
        )


def _splitter(kind: str, settings: Mapping[str, Any], normalizer: Any) -> tuple[Any, Any] | None:
    """The normalizer and the pre-tokenizer of a class; None for one that is not known here.

    Args:
        normalizer: Of tokenizer.json.
    """
    if kind in _BERT_LIKE:
        return normalizer, tokenizers.pre_tokenizers.BertPreTokenizer()
    space = settings.get("add_prefix_space", kind in _PIECES) is True
    if kind in BYTE_LEVEL:
        return None, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=space)
    if kind == "Qwen2Tokenizer":
        parts = [
            tokenizers.pre_tokenizers.Split(Regex(_QWEN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False),
        ]
        return None, tokenizers.pre_tokenizers.Sequence(parts)
    if kind in _PIECES:
        scheme = "always" if space or kind == "T5Tokenizer" else "never"
        parts = [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme),
        ]
        return None, tokenizers.pre_tokenizers.Sequence(parts)
    return None


def _pieces(stages: tuple[Any, Any] | None) -> list[str] | None:
    """What a normalizer and a pre-tokenizer make of some words."""
    if stages is None:
        return None
    normalizer, splitter = stages
    text = _WORDS if normalizer is None else normalizer.normalize_str(_WORDS)
    return [text] if splitter is None else [piece for piece, _ in splitter.pre_tokenize_str(text)]


def _bert_normalizer(settings: Mapping[str, Any]) -> tokenizers.normalizers.Normalizer:
    strip = settings.get("strip_accents")
    return tokenizers.normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True) is not False,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True) is not False,
        strip_accents=strip if isinstance(strip, bool) else None,
    )


def _what_it_does(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """The settings as tokenizer.json has them; those that it does not tell are left out."""
    found: dict[str, Any] = {}
    empty = tokenizer.encode("")  # its own padding left out, and each id by its own name
    ids = [number for number, m in zip(empty.ids, empty.attention_mask, strict=True) if m]
    ends = [tokenizer.id_to_token(number) for number in ids]
    found["ends"] = ends
    if len(ends) == 2:
        found["cls_token"], found["sep_token"] = ends
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    found["do_lower_case"] = normalizer is not None and normalizer.normalize_str("A") == "a"
    found["keep_accents"] = normalizer is None or normalizer.normalize_str("é") != "e"
    if splitter is not None:
        pieces = splitter.pre_tokenize_str("a")
        found["add_prefix_space"] = bool(pieces) and pieces[0][0].startswith("▁")
    return found
