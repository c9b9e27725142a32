"""Where a text can be cut without changing the tokens before the cut.

A model keeps the first few hundred tokens of a text, so tokenizing all of a long one is wasted
work. Tokenizing a prefix gives the same tokens if the cut lies where every stage of the tokenizer
treats both sides apart. `safe_cut` says where that is, and None for a tokenizer for which it cannot
be shown; such texts are tokenized in full.

Why a single space between two plain letters is such a place:

* Normalizers. Unicode normal forms, accent stripping, lower-casing and sentencepiece's character
  map work on one grapheme or one combining sequence at a time, and a space between letters ends
  both. A replacement spans the cut only if its pattern holds a letter or a single space, which is
  checked. So is that the letters themselves stay visible.
* Added tokens are searched in the whole text; one that holds a space after other characters could
  span the cut, and rules it out. Those that swallow spaces beside them swallow none of the prefix,
  which ends in a letter.
* Pre-tokenizers. Words are pieces, cut at white space (WordPiece), before it (Metaspace), or by
  one of the byte-level patterns below, of which none matches a letter and a space after it.
* Models (WordPiece, WordLevel, Unigram, BPE without dropout) see one piece at a time.
* Post-processors put special tokens around the whole, which truncation leaves room for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

_MODELS = ("WordPiece", "WordLevel", "Unigram", "BPE")

_LOCAL_NORMALIZERS = (
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Strip",
    "StripAccents",
)

#: Regular expressions that never match at a single space, whatever stands around it.
_LOCAL_REPLACEMENTS = (" {2,}", r"\s{2,}", r"[\n\r\t]")

_SPACE_SPLITTING = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")

#: Pieces that other pre-tokenizers of a sequence cut further, each character by its own class.
_NARROWING = ("Digits", "Punctuation")

#: The word patterns of GPT-2 and RoBERTa, of Llama 3 and of Qwen.
_BYTE_LEVEL_PATTERNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)

#: Letters of the Latin, Greek and Cyrillic blocks, and ASCII digits.
_LETTERS = tuple(
    chr(code) for code in range(0x30, 0x530) if chr(code).isalpha() or 0x30 <= code <= 0x39
)

_IDEOGRAPHS = "\u4e00-\u9fff"


def safe_cut(tokenizer: tokenizers.Tokenizer) -> re.Pattern[str] | None:
    """A pattern that matches where a text can be cut (at the match's start); None for nowhere.

    The tokenizer must truncate on the right; the caller checks that the prefix filled the window.
    """
    if not is_deterministic(tokenizer.model):
        return None
    normalizer, splitter = state(tokenizer.normalizer), state(tokenizer.pre_tokenizer)
    if not normalizes_locally(normalizer) or not splits_at_space(splitter):
        return None
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    if any(re.search(r"\S[\s▁]", content) for content in added):
        return None
    letters = "".join(c for c in _LETTERS if _stays_visible(tokenizer.normalizer, c))
    if not letters:
        return None
    pattern = f"(?<=[{letters}]) (?=[{letters}])"
    parts = [part for part in steps(normalizer, "normalizers") if part["type"] != "Lowercase"]
    ideographs_apart = (
        [part["type"] for part in parts] == ["BertNormalizer"]
        and parts[0].get("handle_chinese_chars") is True
        and splitter.get("type") in _SPACE_SPLITTING
        and not any(re.search(f"[{_IDEOGRAPHS}]", content) for content in added)
    )
    if ideographs_apart:  # this normalizer puts spaces around each of them
        pattern += f"|(?<=[{_IDEOGRAPHS}])(?=[{_IDEOGRAPHS}])"
    return re.compile(pattern)


def is_deterministic(model: Any) -> bool:
    """Whether it sees one piece at a time, and gives the same tokens for it every time."""
    random = getattr(model, "dropout", None) or getattr(model, "alpha", None)
    return type(model).__name__ in _MODELS and not random


def state(component: Any) -> Mapping[str, Any]:
    """A component as tokenizer.json describes it."""
    if component is None:
        return {"type": None}
    try:
        stated: Mapping[str, Any] = json.loads(component.__getstate__())
    except Exception:  # written in Python: tokenizers cannot tell what it does
        return {"type": "Custom"}
    return stated


def steps(stated: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    """A component's parts in order, those of sequences inside it too.

    Args:
        name: Where tokenizer.json keeps the parts of a sequence of this kind.
    """
    if stated.get("type") != "Sequence":
        return [stated]
    return [inner for step in stated.get(name, ()) for inner in steps(step, name)]


def normalizes_locally(state: Mapping[str, Any]) -> bool:
    """Whether a normalizer changes one character or one combining sequence at a time."""
    return all(
        step.get("type") is None
        or step["type"] in _LOCAL_NORMALIZERS
        or (step["type"] == "Replace" and _replaces_locally(step))
        for step in steps(state, "normalizers")
    )


def _replaces_locally(state: Mapping[str, Any]) -> bool:
    pattern = state.get("pattern", {})
    if "String" in pattern:
        return bool(pattern["String"]) and not re.search(r"[^\W_]| ", pattern["String"])
    return pattern.get("Regex") in _LOCAL_REPLACEMENTS


def splits_at_space(state: Mapping[str, Any]) -> bool:
    """Whether no piece of a pre-tokenizer has a letter and a space after it."""
    splits = False
    for step in steps(state, "pretokenizers"):
        kind = step.get("type")
        if kind in _SPACE_SPLITTING:
            splits = True
        elif kind == "ByteLevel":
            # Without its own pattern it only spells bytes.
            splits = splits or step.get("use_regex", True) is True
        elif kind == "Metaspace":
            splits = splits or step.get("split", True) is True
        elif kind == "Split":
            pattern = step.get("pattern", {})
            whole = step.get("behavior") in ("Isolated", "Removed")
            if not whole or pattern.get("Regex") not in _BYTE_LEVEL_PATTERNS:
                return False
            if (step["behavior"] == "Removed") is not bool(step.get("invert")):
                return False  # keeps what lies between the words
            splits = True
        elif kind not in _NARROWING:
            return False
    return splits


def _stays_visible(normalizer: Any, letter: str) -> bool:
    if normalizer is None:
        return True
    normalized: str = normalizer.normalize_str(letter)
    return bool(normalized) and not re.search(r"[\s▁]", normalized)
