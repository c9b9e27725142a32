"""Calibration: which texts, and how they are cut into batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import EmbeddingModel, TokenBatch
from core.engine.batching import cut_batches
from core.errors import OptionError

#: Longest calibration text in words, where no text is given; models cut it to their own length.
_MOST_WORDS = 300
_SEED = 20
#: Small batches: nncf keeps the statistics of each, and many shapes are seen.
_BATCH_TOKENS = 512


def default_texts(count: int) -> list[str]:
    """`count` English texts of 1 to 300 words, the same on every call.

    They are cut from the reference manual inside every Python (`pydoc_data`). Texts of the
    model's own use and language calibrate it better.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise OptionError(
            "This Python comes without its manual, which serves as calibration text by default: "
            "give texts with calibration=[...], a .txt or a .jsonl file."
        ) from error
    words = " ".join(topics[name] for name in sorted(topics)).split()
    choose = random.Random(_SEED)
    texts = []
    for _ in range(count):
        length = choose.randint(1, _MOST_WORDS)
        start = choose.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def choose_texts(given: Sequence[str] | None, count: int) -> list[str]:
    """At most `count` of the texts given, evenly spread over them; or the default ones.

    Raises:
        OptionError: An empty sequence.
    """
    if given is None:
        return default_texts(count)
    if not len(given):
        raise OptionError(
            "calibration holds no texts: give a few hundred like those to be embedded, or None "
            "for the default ones."
        )
    picked = np.linspace(0, len(given) - 1, min(count, len(given))).round().astype(int)
    return [given[i] for i in picked]


def calibration_batches(
    model: EmbeddingModel, texts: Sequence[str]
) -> list[tuple[NDArray[np.int64], TokenBatch]]:
    """The texts cut into batches, lengths and padding as `encode` would."""
    tokenizer = model.tokenizer
    batches = cut_batches(
        tokenizer.encode(texts),
        batch_tokens=_BATCH_TOKENS,
        batch_size=None,
        pad_id=tokenizer.pad_id,
        padding_side=tokenizer.padding_side,
    )
    return list(batches)


def feed(batch: TokenBatch, names: Sequence[str]) -> dict[str, Any]:
    """The inputs called `names` of one batch."""
    return {name: getattr(batch, name) for name in names}
