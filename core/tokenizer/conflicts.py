"""Where tokenizer_config.json says otherwise than the tokenizer.json beside it.

transformers 5 builds the tokenizers of some classes anew, by these settings; its version 4 and this
package keep what tokenizer.json does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import tokenizers

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


def warn_of_conflicts(
    source: Source, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], kind: str
) -> None:
    """Name the settings that tokenizers of the class `kind` follow and this one does not."""
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


def _what_it_does(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """The settings as tokenizer.json has them; those that it does not tell are left out."""
    found: dict[str, Any] = {}
    empty = tokenizer.encode("")
    ends = [token for token, m in zip(empty.tokens, empty.attention_mask, strict=True) if m]
    if len(ends) == 2:
        found["cls_token"], found["sep_token"] = ends
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    found["do_lower_case"] = normalizer is not None and normalizer.normalize_str("A") == "a"
    found["keep_accents"] = normalizer is None or normalizer.normalize_str("é") != "e"
    if splitter is not None:
        pieces = splitter.pre_tokenize_str("a")
        found["add_prefix_space"] = bool(pieces) and pieces[0][0].startswith("▁")
    return found
