"""A tokenizer from the vocabulary files that came before tokenizer.json."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers
import tokenizers.decoders
import tokenizers.models
import tokenizers.normalizers
import tokenizers.pre_tokenizers
import tokenizers.processors

from core.architecture.architecture import Architecture
from core.architecture.settings import positive_number
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.pointers import check_fetched
from core.files.source import Source
from core.files.staging import copy_file
from core.machine.quiet import quiet_transformers
from core.tokenizer.added_tokens import add_tokens
from core.tokenizer.settings import (
    GENERIC_CLASSES,
    bert_settings,
    harmless,
    names_own_code,
    tokenizer_class,
)

logger = logging.getLogger("core")

#: Classes of transformers that are BERT's WordPiece, and the types of models that use it.
_WORDPIECE_CLASSES = (
    None,
    *GENERIC_CLASSES,
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
)
_WORDPIECE_MODELS = ("bert", "distilbert", "electra", "")
_ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
#: Tables of embeddings may have more rows than there are tokens, up to a multiple of this.
_FILLED_UP_TO = 128
#: Files that hold vocabularies, by their names or endings.
_VOCABULARIES = ("vocab.json", "tekken.json", "entity_vocab.json", "bpe.codes")
_VOCABULARY_ENDINGS = (".txt", ".model", ".vocab")
_NO_VOCABULARIES = ("README.txt", "LICENSE.txt", "requirements.txt")
#: The configuration that the classes of transformers read beside them.
_SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json")


def convert(
    source: Source, architecture: Architecture, settings: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """A tokenizer from the vocabulary beside the transformer.

    Raises:
        ModelFormatError: There is no vocabulary, or it is not one.
        UnsupportedOperation: Its class is not one that `tokenizers` can run.
    """
    names = vocabulary_files(source, architecture)
    wanted = architecture.file("tokenizer.json")
    if architecture.is_static or not names:
        older = "" if architecture.is_static else " and no older vocabulary (vocab.txt, *.model)"
        raise ModelFormatError(
            f"{source} has no {wanted}{older}, so nothing says how to cut texts into tokens. Copy "
            "the tokenizer's files from the model it was made from into "
            f"{architecture.path or 'its directory'}."
        )
    for name in names:
        check_fetched(source.path(name), f"{source}: {name}")
    kind = tokenizer_class(settings, architecture)
    if names_own_code(settings, architecture):
        raise UnsupportedOperation(
            f"{source} has no {wanted}, and its tokenizer is code that comes with the model"
            f"{f' ({kind})' if kind else ''}, which core never runs. {_ADVICE}"
        )
    vocabulary = architecture.file("vocab.txt")
    if (
        vocabulary in names
        and kind in _WORDPIECE_CLASSES
        and architecture.model_type in _WORDPIECE_MODELS
    ):
        tokenizer = _wordpiece(source, vocabulary, settings)
        add_tokens(source, architecture, tokenizer, settings)
        _warn_of_missing_words(source, architecture, vocabulary, tokenizer)
        return tokenizer
    return _convert_with_transformers(source, architecture, settings, kind)


_ADVICE = (
    "If its tokenizer has a fast version, write it with transformers "
    "(AutoTokenizer.from_pretrained(...).save_pretrained(...)) and add the tokenizer.json."
)


def vocabulary_files(source: Source, architecture: Architecture) -> list[str]:
    """Files beside the transformer that a tokenizer's vocabulary may be in."""
    found = []
    for name in source.names:
        folder, _, file = name.rpartition("/")
        if folder != architecture.path or file in _NO_VOCABULARIES:
            continue
        if file in _VOCABULARIES or file.endswith(_VOCABULARY_ENDINGS):
            found.append(name)
    return found


def _wordpiece(source: Source, name: str, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BERT's tokenizer, as transformers' class of the same name builds it."""
    tokens = {role: _content(settings.get(role)) or usual for role, usual in _ROLES.items()}
    try:
        vocabulary = tokenizers.models.WordPiece.read_file(str(source.path(name)))
    except Exception as error:  # tokenizers raises plain ones
        raise ModelFormatError(
            f"{source}: {name} is not a vocabulary ({error}). Restore or download it again."
        ) from error
    missing = [t for r, t in tokens.items() if r in ("cls_token", "sep_token", "unk_token")]
    missing = [token for token in missing if token not in vocabulary]
    if missing:
        raise ModelFormatError(
            f"{source}: {name} lacks {', '.join(map(repr, missing))}, which BERT's tokenizer "
            "needs. Restore or download it again, or name the tokens in tokenizer_config.json."
        )
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token=tokens["unk_token"])
    )
    normalizer = tokenizers.normalizers.BertNormalizer()
    for attribute, value in bert_settings(source, settings).items():
        setattr(normalizer, attribute, value)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([token for token in tokens.values() if token in vocabulary])
    first, last = tokens["cls_token"], tokens["sep_token"]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return tokenizer


def _warn_of_missing_words(
    source: Source, architecture: Architecture, name: str, tokenizer: tokenizers.Tokenizer
) -> None:
    """A file that was cut off loads, and its missing words become other tokens."""
    known, rows = tokenizer.get_vocab_size(), positive_number(architecture.config, "vocab_size")
    if rows is not None and rows - known >= _FILLED_UP_TO:
        logger.warning(
            "%s: %s holds %d tokens, and the model has embeddings for %d. If the file was cut off, "
            "embeddings are wrong: restore or download it again.",
            source,
            name,
            known,
            rows,
        )


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None


def _convert_with_transformers(
    source: Source, architecture: Architecture, settings: Mapping[str, Any], kind: str | None
) -> tokenizers.Tokenizer:
    name = architecture.file("tokenizer.json")
    try:
        import transformers
    except ImportError as error:
        raise ModelFormatError(
            f"{source} has no {name}. `pip install core[torch]` brings transformers, which can "
            "make one from the older vocabulary files; core[torch] can then also save the model "
            "with it."
        ) from error
    if kind is not None and not any(_class(transformers, kind + end) for end in ("", "Fast")):
        raise UnsupportedOperation(
            f"{source} has no {name}, and its tokenizer is of the class {kind}, which transformers "
            f"does not have. {_ADVICE}"
        )
    if kind is not None and _runs_in_python(transformers, kind):
        raise UnsupportedOperation(
            f"{source} has no {name}, and transformers runs its tokenizer ({kind}) in Python: it "
            f"has no fast version that core could run. {_ADVICE}"
        )
    names = vocabulary_files(source, architecture)
    try:
        with staged_tokenizer(source, architecture, settings) as folder, quiet_transformers():
            converted = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            backend = getattr(converted, "backend_tokenizer", None)
            kind = type(converted).__name__
            if isinstance(backend, tokenizers.Tokenizer):
                made = tokenizers.Tokenizer.from_str(backend.to_str())
                lacking = _unknown_token_that_is_none(made)
                if lacking is not None:
                    raise ValueError(f"the vocabulary lacks the unknown token {lacking!r}.")
                if knows_words(made):
                    return made
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        reason, hint = str(error).strip()[:300], "Restore or download them again."
        sentencepiece = [n for n in names if n.endswith(".model") and not _is_tiktoken(source, n)]
        if sentencepiece and not _is_installed("sentencepiece"):
            hint = "Reading its sentencepiece vocabulary needs `pip install sentencepiece`."
        elif sentencepiece and "tiktoken" in reason:  # tried last, after the right one failed
            reason = f"{', '.join(sentencepiece)} is not a vocabulary of sentencepiece."
        raise ModelFormatError(
            f"{source} has no {name}, and none could be made from {', '.join(names)} for the class "
            f"{kind or 'of its model type'}: {reason.rstrip('.')}. {hint}"
        ) from error
    raise ModelFormatError(
        f"{source} has no {name}, and what transformers makes of {', '.join(names)} ({kind}) "
        f"knows no words or cannot be run by core: class and files may not belong together. "
        f"Restore or download them again. {_ADVICE}"
    )


def _unknown_token_that_is_none(tokenizer: tokenizers.Tokenizer) -> str | None:
    """The token for unknown words, if the vocabulary lacks it: the first such word would fail."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    needed = model["type"] in ("WordPiece", "WordLevel") and isinstance(token, str)
    return token if needed and token not in model["vocab"] else None


def _is_tiktoken(source: Source, name: str) -> bool:
    """Whether it is tiktoken's format: a token in base64 and its rank on each line."""
    with source.path(name).open("rb") as file:
        return re.match(rb"[A-Za-z0-9+/]+=* \d+\n", file.read(300)) is not None


def knows_words(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether the vocabulary holds more than special tokens."""
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if tokenizer.get_vocab_size(with_added_tokens=False) > len(added):
        return True
    return bool(set(tokenizer.get_vocab(with_added_tokens=False)) - added)


def _class(transformers: Any, name: str) -> Any:
    try:
        return getattr(transformers, name, None)
    except Exception:  # its module is imported now, and may lack what it needs
        return None


def _runs_in_python(transformers: Any, kind: str) -> bool:
    found, fast = (_class(transformers, kind + end) for end in ("", "Fast"))
    # Version 5 makes up an alias with "Fast" for every class.
    slow = isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizer)
    return slow and fast in (None, found) and kind not in GENERIC_CLASSES


@contextmanager
def staged_tokenizer(
    source: Source,
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    with_tokenizer: bool = False,
) -> Iterator[Path]:
    """A directory that transformers can read a tokenizer from: harmless settings, no paths.

    Args:
        with_tokenizer: Copy tokenizer.json as well.
    """
    with tempfile.TemporaryDirectory(prefix="core-tokenizer-") as name:
        folder = Path(name)
        copied = vocabulary_files(source, architecture)
        whole = architecture.file("tokenizer.json")
        if with_tokenizer and source.has(whole):
            copied = [*copied, whole]
        for file in copied:
            copy_file(source.path(file), folder / file.rpartition("/")[2])
        for file in _SETTINGS_FILES:
            place = architecture.file(file)
            if source.has(place):
                _write_json(folder / file, harmless(source.read_json(place)))
        # What the model's author stored for the tokenizer goes before both.
        config = folder / "tokenizer_config.json"
        stored = json.loads(config.read_bytes()) if config.exists() else {}
        kept = harmless(architecture.tokenizer_kwargs)
        if kept or "tokenizer_class" in settings:
            _write_json(config, {**stored, **kept})
        older = architecture.file("added_tokens.json")
        if source.has(older):
            numbers = source.read_json(older)
            kept = {token: number for token, number in numbers.items() if isinstance(number, int)}
            _write_json(folder / "added_tokens.json", kept)
        outer = architecture.config.get("outer", architecture.config)
        facts = {
            key: outer[key]
            for key in ("model_type", "tokenizer_class")
            if isinstance(outer.get(key), str)
        }
        _write_json(folder / "config.json", facts)
        yield folder


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
