"""The tokenizer of a checkpoint, from the files of every dialect."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import tokenizers
import tokenizers.normalizers

from core.architecture.architecture import Architecture
from core.errors import ModelError, ModelFormatError
from core.files.pointers import check_fetched
from core.files.source import Source
from core.machine.cpus import limit_tokenizer_threads
from core.machine.quiet import quiet_transformers
from core.tokenizer.tokenizer import Tokenizer

_MAX_TOKENIZER_BYTES = 500_000_000


def read_tokenizer(source: Source, architecture: Architecture) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Raises:
        ModelFormatError: tokenizer.json is missing or unreadable.
    """
    limit_tokenizer_threads()
    settings = _settings(source, architecture)
    name = architecture.file("tokenizer.json")
    tokenizer = _parse(source, name) if source.has(name) else _convert(source, architecture)
    tokenizer.normalizer = _normalizer(tokenizer.normalizer, settings, architecture)
    padding = tokenizer.padding or {}
    padding_side = settings.get("padding_side") or padding.get("direction") or "right"
    truncation_side = settings.get("truncation_side") or "right"
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
        add_special_tokens=not architecture.is_static,
    )


def _max_length(
    source: Source, tokenizer: tokenizers.Tokenizer, architecture: Architecture
) -> int | None:
    if architecture.is_static and source.has("modules.json"):
        # No other file states it, and sentence-transformers leaves tokenizer.json's in force.
        truncation = tokenizer.truncation or {}
        return truncation.get("max_length") or architecture.max_seq_length
    return architecture.max_seq_length


#: tokenizer_config.json's names of a BertNormalizer's settings.
_BERT_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


#: Classes that take tokenizer.json as it is.
_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")


def _normalizer(normalizer: Any, settings: Mapping[str, Any], architecture: Architecture) -> Any:
    """tokenizer.json's normalizer with what other files say of it.

    transformers' BERT-like tokenizers take three settings from tokenizer_config.json, whatever
    tokenizer.json holds; sentence_bert_config.json's `do_lower_case` puts lower-casing in front.
    """
    plain = settings.get("tokenizer_class") in _PLAIN_TOKENIZERS
    if isinstance(normalizer, tokenizers.normalizers.BertNormalizer) and not plain:
        for key, attribute in _BERT_SETTINGS.items():
            if key in settings and isinstance(settings[key], bool | None):
                setattr(normalizer, attribute, settings[key])
    if not architecture.do_lower_case or _lowers(normalizer):
        return normalizer
    lower = tokenizers.normalizers.Lowercase()
    return tokenizers.normalizers.Sequence([lower] if normalizer is None else [lower, normalizer])


def _lowers(normalizer: Any) -> bool:
    steps: Any = [normalizer]
    if isinstance(normalizer, tokenizers.normalizers.Sequence):
        steps = normalizer  # iterable, which its type information does not say
    return any(isinstance(step, tokenizers.normalizers.Lowercase) for step in steps)


def _settings(source: Source, architecture: Architecture) -> dict[str, Any]:
    name = architecture.file("tokenizer_config.json")
    stored = source.read_json(name) if source.has(name) else {}
    name = architecture.file("special_tokens_map.json")
    special = source.read_json(name) if source.has(name) else {}
    return {**special, **stored, **architecture.tokenizer_kwargs}


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


def _convert(source: Source, architecture: Architecture) -> tokenizers.Tokenizer:
    """A tokenizer from the files that came before tokenizer.json."""
    vocabulary = architecture.file("vocab.txt")
    if source.has(vocabulary) and architecture.model_type in ("bert", "distilbert", "electra", ""):
        settings = _settings(source, architecture)
        lower = bool(settings.get("do_lower_case", True))
        check_fetched(source.path(vocabulary), f"{source}: {vocabulary}")
        from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

        wordpiece = BertWordPieceTokenizer(
            str(source.path(vocabulary)),
            lowercase=lower,
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        )
        return wordpiece._tokenizer
    return _convert_with_transformers(source, architecture)


def text_files(source: Source, architecture: Architecture) -> list[str]:
    """Configuration and vocabulary beside the transformer: what transformers' tokenizers read."""
    beside = [n for n in source.names if n.rpartition("/")[0] == architecture.path]
    return [n for n in beside if n.endswith((".json", ".txt", ".model", ".vocab"))]


def _convert_with_transformers(source: Source, architecture: Architecture) -> tokenizers.Tokenizer:
    name = architecture.file("tokenizer.json")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ModelFormatError(
            f"{source} has no {name}. `pip install core[torch]` brings transformers, which can "
            "make one from the older vocabulary files; core[torch] can then also save the model "
            "with it."
        ) from error
    small = text_files(source, architecture)
    folder = source.folder(small) / architecture.path
    try:
        with quiet_transformers():
            converted = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        backend = getattr(converted, "backend_tokenizer", None)
    except Exception as error:
        hint = ""
        if any(n.endswith(".model") for n in small) and not _is_installed("sentencepiece"):
            hint = " Reading its sentencepiece vocabulary needs `pip install sentencepiece`."
        why = str(error).strip()[:300]
        if isinstance(error, TypeError | AttributeError | IndexError | KeyError):
            # What a tokenizer of transformers says of a file that is not there.
            why = f"{_tokenizer_class(source, architecture)} needs another file, or none of these."
        raise ModelError(
            f"{source} has no {name}, and none could be made from {', '.join(small)}: {why}{hint}"
        ) from error
    if not isinstance(backend, tokenizers.Tokenizer):
        raise ModelFormatError(
            f"{source} has no {name}, and its tokenizer ({type(converted).__name__}) is one of "
            "those that transformers has in Python only, which core does not run. Look for a "
            f"version of the model that has a {name}, or use sentence-transformers."
        )
    return tokenizers.Tokenizer.from_str(backend.to_str())


def _tokenizer_class(source: Source, architecture: Architecture) -> str:
    stated = _settings(source, architecture).get("tokenizer_class")
    return stated if isinstance(stated, str) else "its tokenizer"


def unknown_token(tokenizer: tokenizers.Tokenizer) -> int | None:
    """The unknown token's id; None where the tokenizer has none."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    number = tokenizer.token_to_id(token) if isinstance(token, str) else model.get("unk_id")
    return number if isinstance(number, int) else None


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _pad_id(
    tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], architecture: Architecture
) -> int:
    token = settings.get("pad_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    if isinstance(token, str):
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    stated = architecture.config.get("pad_token_id")
    return stated if isinstance(stated, int) and stated >= 0 else 0
