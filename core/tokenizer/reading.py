"""The tokenizer of a checkpoint, from the files of every dialect."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
import tokenizers.normalizers
from tokenizers.pre_tokenizers import ByteLevel

from core.architecture.architecture import Architecture
from core.architecture.settings import flag, positive_number
from core.errors import ModelFormatError
from core.files.pointers import check_fetched
from core.files.source import Source
from core.machine.cpus import limit_tokenizer_threads
from core.tokenizer.added_tokens import add_tokens, set_ends
from core.tokenizer.chat import PairTemplate
from core.tokenizer.conflicts import BYTE_LEVEL, warn_of_conflicts
from core.tokenizer.scored_tokens import register_prefixes
from core.tokenizer.settings import (
    GENERIC_CLASSES,
    bert_settings,
    read_settings,
    tokenizer_class,
)
from core.tokenizer.token_types import types_pairs
from core.tokenizer.tokenizer import Tokenizer, explained
from core.tokenizer.vocabulary import convert, knows_words

logger = logging.getLogger("core")

_MAX_TOKENIZER_BYTES = 500_000_000
_XLM = "xlm-roberta"


def read_tokenizer(
    source: Source,
    architecture: Architecture,
    template: PairTemplate | None = None,
    *,
    special_tokens: bool = True,
) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
        template: What its pairs are put into, which has the special tokens already.
        special_tokens: Whether it puts them around a text, where the architecture has them.

    Raises:
        ModelFormatError: tokenizer.json is missing or unreadable, or holds no vocabulary.
        UnsupportedOperation: The older vocabulary is of a class that is not run here.
    """
    limit_tokenizer_threads()
    settings = read_settings(source, architecture)
    name = architecture.file("tokenizer.json")
    if source.has(name):
        tokenizer = _parse(source, name)
        _leave_nothing_to_chance(source, name, tokenizer)
        if not architecture.is_static:
            if tokenizer.padding:  # what it pads with is a special token, as in transformers
                settings = {"pad_token": tokenizer.padding["pad_token"], **settings}
            with explained(f"{source}: {name}"):
                _complete(source, tokenizer, settings, architecture)
    else:
        tokenizer = convert(source, architecture, settings)
    if not knows_words(tokenizer):  # every text of a length would embed alike
        raise ModelFormatError(
            f"{source}: the tokenizer's vocabulary is empty but for special tokens. Restore or "
            "download the model's tokenizer files again."
        )
    if architecture.do_lower_case:
        tokenizer.normalizer = _lowering(tokenizer.normalizer)
    if architecture.late_interaction is not None:
        register_prefixes(tokenizer, architecture.late_interaction)
    padding = tokenizer.padding or {}
    padding_side = settings.get("padding_side") or padding.get("direction") or "right"
    truncation = tokenizer.truncation or {}
    truncation_side = settings.get("truncation_side") or truncation.get("direction") or "right"
    for key, side in (("padding_side", padding_side), ("truncation_side", truncation_side)):
        if side not in ("left", "right"):
            raise ModelFormatError(
                f"{source}: the tokenizer's {key} is {side!r}; it must be 'left' or 'right'."
            )
    return Tokenizer(
        tokenizer,
        max_length=_max_length(source, tokenizer, architecture),
        pad_id=_pad_id(tokenizer, settings, architecture),
        padding_side=padding_side,
        truncation_side=truncation_side,
        add_special_tokens=special_tokens and not architecture.is_static and template is None,
        endings=template.probes if template is not None and template.keeps_end else None,
        types_pairs=types_pairs(source, tokenizer, settings, architecture),
        special_ids=_special_ids(tokenizer, settings, architecture),
        split_special_tokens=flag(
            settings, f"{source}: the tokenizer's settings", "split_special_tokens", False
        ),
    )


#: Settings that name the tokens of `Tokenizer.special_ids`, and XLM-RoBERTa's where they are unset.
_WEIGHTLESS = {
    "cls_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}


def _special_ids(
    tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], architecture: Architecture
) -> list[int]:
    kind = tokenizer_class(settings, architecture)
    own = kind == "XLMRobertaTokenizer" or (kind is None and architecture.model_type == _XLM)
    found = []
    for name, default in _WEIGHTLESS.items():
        token = settings.get(name) or (default if own else None)
        content = token.get("content") if isinstance(token, Mapping) else token
        number = tokenizer.token_to_id(content) if isinstance(content, str) else None
        if number is not None:
            found.append(number)
    return found


def _complete(
    source: Source,
    tokenizer: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    architecture: Architecture,
) -> None:
    """What the files beside tokenizer.json change of it."""
    add_tokens(source, architecture, tokenizer, settings)
    kind = tokenizer_class(settings, architecture) or ""
    set_ends(tokenizer, architecture.tokenizer_kwargs, settings, kind or architecture.model_type)
    prefix = settings.get("add_prefix_space", False if kind in BYTE_LEVEL else None)
    splitter = tokenizer.pre_tokenizer
    own = kind and kind not in GENERIC_CLASSES
    if own and isinstance(prefix, bool) and isinstance(splitter, ByteLevel):
        splitter.add_prefix_space = prefix
        tokenizer.pre_tokenizer = splitter
    tokenizer.normalizer = _with_settings(source, tokenizer.normalizer, settings)
    warn_of_conflicts(source, tokenizer, settings, kind, architecture.model_type)


def _max_length(
    source: Source, tokenizer: tokenizers.Tokenizer, architecture: Architecture
) -> int | None:
    if architecture.is_static and source.has("modules.json"):
        # No other file states it, and sentence-transformers leaves tokenizer.json's in force.
        length = (tokenizer.truncation or {}).get("max_length")
        if length == 0:
            raise ModelFormatError(
                f"{source}: tokenizer.json cuts every text to nothing: its truncation has the "
                "max_length 0. Set it to a number of tokens, or truncation to null."
            )
        return length or architecture.max_seq_length
    return architecture.max_seq_length


def _with_settings(source: Source, normalizer: Any, settings: Mapping[str, Any]) -> Any:
    """tokenizer.json's normalizer with what tokenizer_config.json says of it.

    transformers' BERT-like tokenizers take three settings from there, whatever tokenizer.json
    holds.
    """
    plain = settings.get("tokenizer_class") in GENERIC_CLASSES
    if isinstance(normalizer, tokenizers.normalizers.BertNormalizer) and not plain:
        for attribute, value in bert_settings(source, settings).items():
            setattr(normalizer, attribute, value)
    return normalizer


def _lowering(normalizer: Any) -> Any:
    """The normalizer with lower-casing in front: sentence_bert_config.json's `do_lower_case`."""
    if _lowers(normalizer):
        return normalizer
    lower = tokenizers.normalizers.Lowercase()
    return tokenizers.normalizers.Sequence([lower] if normalizer is None else [lower, normalizer])


def _lowers(normalizer: Any) -> bool:
    steps: Any = [normalizer]
    if isinstance(normalizer, tokenizers.normalizers.Sequence):
        steps = normalizer  # iterable, which its type information does not say
    return any(isinstance(step, tokenizers.normalizers.Lowercase) for step in steps)


def _parse(source: Source, name: str) -> tokenizers.Tokenizer:
    path = source.path(name)
    if path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise ModelFormatError(f"{source}: {name} is larger than any tokenizer.")
    check_fetched(path, f"{source}: {name}")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        raise ModelFormatError(
            f"{source}: {name} is not a tokenizer ({str(error)[:200]}). Restore or download it "
            "again; if a newer library wrote it, `pip install -U tokenizers`."
        ) from error


def _leave_nothing_to_chance(source: Source, name: str, tokenizer: tokenizers.Tokenizer) -> None:
    """BPE may leave out merges at random, for training: a text's tokens differ from call to call.

    transformers' own classes of tokenizers drop the setting, too, and its generic one keeps it.
    """
    model: Any = tokenizer.model
    if getattr(model, "dropout", None):
        logger.warning(
            "%s: %s leaves out merges at random (dropout %g), as in training. core encodes "
            "without, so that a text has the same tokens in every call.",
            source,
            name,
            model.dropout,
        )
        model.dropout = None


def unknown_token(tokenizer: tokenizers.Tokenizer) -> int | None:
    """The unknown token's id; None if the tokenizer has none."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    number = tokenizer.token_to_id(token) if isinstance(token, str) else model.get("unk_id")
    return number if isinstance(number, int) else None


def _pad_id(
    tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], architecture: Architecture
) -> int:
    rows = positive_number(architecture.config, "vocab_size")
    for number in _pad_ids(tokenizer, settings, architecture):
        # A model without a row for it could not read its own padding.
        if isinstance(number, int) and number >= 0 and (rows is None or number < rows):
            return number
    return 0


def _pad_ids(
    tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], architecture: Architecture
) -> Iterator[Any]:
    if architecture.is_static:
        return  # padding is left out of the mean, and any row serves
    token = settings.get("pad_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    if isinstance(token, str):
        yield tokenizer.token_to_id(token)
    if tokenizer.padding:
        yield tokenizer.padding["pad_id"]
    yield architecture.config.get("pad_token_id")
