"""Texts to token ids, with one immutable `tokenizers.Tokenizer`.

Padding and truncation of tokenizer.json are overridden once, at load, and nothing is changed
afterwards: that is what lets many threads encode at once. Padding is not the tokenizer's work at
all: rows are padded when batches are cut.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tokenizers
import tokenizers.normalizers
from numpy.typing import NDArray

from core.architecture import Architecture
from core.checkpoint import Checkpoint
from core.errors import ModelError, ModelFormatError
from core.prefix import safe_cut
from core.quiet import quiet_transformers
from core.threads import limit_tokenizer_threads

# Encodings carry strings and masks, many times a text's size; a bounded number lives at once.
_CHUNK_TEXTS = 1_024
_CHUNK_CHARACTERS = 500_000
# Of a long text so many characters a token are tokenized first; English has 4 to 5.
_CHARACTERS_PER_TOKEN = 6
_MAX_TOKENIZER_BYTES = 500_000_000


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of many texts, end to end.

    Attributes:
        ids: int32 [sum of lengths].
        lengths: int64 [texts].
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]

    def reorder(self, order: NDArray[np.int64]) -> TokenizedTexts:
        """The same texts in another order."""
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        # Position inside its text, plus where that text starts.
        source = np.arange(total) - np.repeat(ends - lengths, lengths)
        source += np.repeat(starts[order], lengths)
        return TokenizedTexts(self.ids[source], lengths)


class Tokenizer:
    """Tokenizes with truncation to `max_length` tokens, special tokens included.

    Attributes:
        max_length: In tokens, or None for no limit.
        pad_id: The padding token's id.
        padding_side: "right" or "left".
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        max_length: int | None = None,
        pad_id: int = 0,
        padding_side: str = "right",
        truncation_side: str = "right",
        add_special_tokens: bool = True,
    ) -> None:
        tokenizer.no_padding()
        self._window = 0
        if max_length is None:
            tokenizer.no_truncation()
        else:
            reserved = tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0
            self._window = max(max_length, reserved)
            tokenizer.enable_truncation(self._window, direction=truncation_side)
        self._tokenizer = tokenizer
        self._special = add_special_tokens
        self._truncation_side = truncation_side
        self.max_length = max_length
        self.pad_id = pad_id
        self.padding_side = padding_side

    def with_max_length(self, max_length: int | None) -> Tokenizer:
        """A copy that truncates elsewhere; this one stays as it is."""
        return Tokenizer(
            tokenizers.Tokenizer.from_str(self._tokenizer.to_str()),
            max_length=max_length,
            pad_id=self.pad_id,
            padding_side=self.padding_side,
            truncation_side=self._truncation_side,
            add_special_tokens=self._special,
        )

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids of `texts`, in their order.

        Of texts far longer than `max_length` only a prefix is tokenized, where that provably
        gives the same ids (core/prefix.py).
        """
        if len(texts) == 1:  # a query: no time to lose on counting
            (row,) = self._rows(texts)
            return TokenizedTexts(np.array(row, np.int32), np.array([len(row)], np.int64))
        chunks: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for chunk in self._chunks(texts):
            rows = self._rows(chunk)
            lengths += map(len, rows)
            chunks.append(np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32))
        return TokenizedTexts(
            np.concatenate(chunks) if chunks else np.empty(0, np.int32),
            np.asarray(lengths, dtype=np.int64),
        )

    def _chunks(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        if self._window:
            np.minimum(sizes, 2 * self._prefix_length, out=sizes)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(texts):
            full = int(ends[start] - sizes[start]) + _CHUNK_CHARACTERS
            stop = int(np.searchsorted(ends, full, side="right"))
            stop = min(max(stop, start + 1), start + _CHUNK_TEXTS)
            yield texts[start:stop]
            start = stop

    @property
    def _prefix_length(self) -> int:
        return max(self._window * _CHARACTERS_PER_TOKEN, 64)

    @cached_property
    def _cut(self) -> re.Pattern[str] | None:
        right = self._window and self._truncation_side == "right"
        return safe_cut(self._tokenizer) if right else None

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, from a prefix of the long ones as far as that fills the window."""
        size = self._prefix_length
        # Cutting pays when much is cut off.
        longest = max(map(len, texts))
        if not self._window or longest < 2 * size or self._cut is None:
            return self._tokenize(texts)
        prefixes = [self._prefix(text, size) for text in texts]
        rows = self._tokenize(prefixes)
        open_ends = list(range(len(texts)))
        while True:
            open_ends = [
                i
                for i in open_ends
                if len(rows[i]) < self._window and len(prefixes[i]) < len(texts[i])
            ]
            if not open_ends:
                return rows
            size *= 4
            for i in open_ends:
                prefixes[i] = self._prefix(texts[i], size)
            longer = self._tokenize([prefixes[i] for i in open_ends])
            for i, row in zip(open_ends, longer, strict=True):
                rows[i] = row

    def _prefix(self, text: str, size: int) -> str:
        if len(text) < 2 * size or self._cut is None:
            return text
        # The lookahead sees nothing past the end of the range, so that is no place to cut.
        match = self._cut.search(text, size, 2 * size)
        return text[: match.start()] if match else text

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=self._special)
        return [encoding.ids for encoding in encodings]

    def prompt_length(self, prompt: str) -> int:
        """How many leading tokens of a text belong to the prompt in front of it.

        The prompt is tokenized alone; a closing special token is not counted.
        """
        if not prompt:
            return 0
        encoding = self._tokenizer.encode(prompt, add_special_tokens=self._special)
        closing = bool(encoding.special_tokens_mask) and encoding.special_tokens_mask[-1] == 1
        return len(encoding.ids) - int(closing)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The underlying tokenizer. Do not change it: other threads use it."""
        return self._tokenizer


def read_tokenizer(source: Checkpoint, architecture: Architecture) -> Tokenizer:
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
    source: Checkpoint, tokenizer: tokenizers.Tokenizer, architecture: Architecture
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


def _settings(source: Checkpoint, architecture: Architecture) -> dict[str, Any]:
    name = architecture.file("tokenizer_config.json")
    stored = source.read_json(name) if source.has(name) else {}
    name = architecture.file("special_tokens_map.json")
    special = source.read_json(name) if source.has(name) else {}
    return {**special, **stored, **architecture.tokenizer_kwargs}


def _parse(source: Checkpoint, name: str) -> tokenizers.Tokenizer:
    path = source.path(name)
    if path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise ModelFormatError(f"{source}: {name} is larger than any tokenizer.")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        raise ModelFormatError(
            f"{source}: {name} is not a tokenizer ({str(error)[:200]}). Restore or download it "
            "again; if a newer library wrote it, `pip install -U tokenizers`."
        ) from error


def _convert(source: Checkpoint, architecture: Architecture) -> tokenizers.Tokenizer:
    """A tokenizer from the files that came before tokenizer.json."""
    vocabulary = architecture.file("vocab.txt")
    if source.has(vocabulary) and architecture.model_type in ("bert", "distilbert", "electra", ""):
        settings = _settings(source, architecture)
        lower = bool(settings.get("do_lower_case", True))
        from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

        wordpiece = BertWordPieceTokenizer(
            str(source.path(vocabulary)),
            lowercase=lower,
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        )
        return wordpiece._tokenizer
    return _convert_with_transformers(source, architecture)


def text_files(source: Checkpoint, architecture: Architecture) -> list[str]:
    """Configuration and vocabulary beside the transformer: what transformers' tokenizers read."""
    beside = [n for n in source.names if n.rpartition("/")[0] == architecture.path]
    return [n for n in beside if n.endswith((".json", ".txt", ".model", ".vocab"))]


def _convert_with_transformers(
    source: Checkpoint, architecture: Architecture
) -> tokenizers.Tokenizer:
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
        backend = converted.backend_tokenizer
    except Exception as error:
        hint = ""
        if any(n.endswith(".model") for n in small) and not _is_installed("sentencepiece"):
            hint = " Reading its sentencepiece vocabulary needs `pip install sentencepiece`."
        raise ModelError(
            f"{source} has no {name}, and none could be made from {', '.join(small)}: "
            f"{str(error).strip()[:300]}{hint}"
        ) from error
    if not isinstance(backend, tokenizers.Tokenizer):
        raise ModelFormatError(f"{source} has no {name} and its tokenizer has no fast version.")
    return tokenizers.Tokenizer.from_str(backend.to_str())


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
