"""The inputs that an artifact is tried with, and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core.architecture.batch import TokenBatch
from core.architecture.limits import position_limit
from core.engine.batching import pad
from core.engine.limits import known_vocabulary, padding_id
from core.engine.runtime import Runtime
from core.errors import VerificationError
from core.models.model import Model

#: Words of the probe texts' lengths: single tokens, batches around sizes that kernels round to.
_PROBE_WORDS = (1, 2, 3, 5, 8, 13, 16, 21, 31, 33, 48, 64, 90, 127, 200, 350)

_MAX_PROBE_TOKENS = 512

#: Of texts that are mixed with shorter ones by the handful. Beside one of 512 tokens nearly all
#: that is computed is padding: the longest text is mixed with a single one.
MOST_MIXED_TOKENS = 128

_MOST_QUERY_WORDS = 16

#: More than any machine runs at once.
_MANY_BATCHES = 1_000

# Public-domain prose (Jane Austen, Herman Melville) and what tokenizers stumble over.
_PROBE_PROSE = (  # noqa: SIM905 - prose reads better than a list of its words
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
    "must be in want of a wife. However little known the feelings or views of such a man may be "
    "on his first entering a neighbourhood, this truth is so well fixed in the minds of the "
    "surrounding families, that he is considered the rightful property of some one or other of "
    "their daughters. Call me Ishmael. Some years ago, never mind how long precisely, having "
    "little or no money in my purse, and nothing particular to interest me on shore, I thought I "
    "would sail about a little and see the watery part of the world."
).split()

_PROBE_ODDITIES = (
    "",
    "42",
    "C++ & Rust: 3.14 != pi?",
    "naïve café, Łódź",
    "机器学习 模型",
    "🙂 ok 🚀",
)


def probe_texts() -> list[str]:
    """Texts of many lengths, the same on every call."""
    texts = list(_PROBE_ODDITIES)
    for number, count in enumerate(_PROBE_WORDS):
        # Each starts elsewhere, so that none is the beginning of another.
        start = number * 7 % len(_PROBE_PROSE)
        words = _PROBE_PROSE[start:] + _PROBE_PROSE * (count // len(_PROBE_PROSE) + 1)
        texts.append(" ".join(words[:count]))
    return texts


def probe_pairs() -> list[tuple[str, str]]:
    """Pairs of texts of many lengths, the same on every call."""
    texts = probe_texts()
    short = [text for text in texts if len(text.split()) <= _MOST_QUERY_WORDS]
    return [(short[i * 3 % len(short)], text) for i, text in enumerate(texts)]


def probe_batches(
    model: Model, result: Runtime, inputs: Sequence[Any], *, both_sides: bool = True
) -> Iterator[TokenBatch]:
    """Mixed and single-text batches, padded as `encode` pads them and on the other side.

    Args:
        both_sides: Whether the other side means anything: a classification head reads the first
            token, which is padding there.

    Raises:
        VerificationError: The model has no embedding for a token of each probe text.
    """
    tokenizer, runtime = model.tokenizer, model.runtime
    tokenized = tokenizer.encode(model.with_prompt(inputs, ""))
    limit = min(
        tokenizer.max_length or _MAX_PROBE_TOKENS,
        position_limit(runtime.architecture.config) or _MAX_PROBE_TOKENS,
        _MAX_PROBE_TOKENS,
    )
    ends = np.cumsum(tokenized.lengths)[:-1]
    types = tokenized.type_ids
    if types is None:
        types = np.zeros_like(tokenized.ids)
    vocabulary = known_vocabulary(runtime)
    rows = []
    for parts in zip(np.split(tokenized.ids, ends), np.split(types, ends), strict=True):
        # Cutting keeps the closing special token, as truncation would.
        row = [p if len(p) <= limit else np.concatenate([p[: limit - 1], p[-1:]]) for p in parts]
        if len(row[0]) and (vocabulary is None or row[0].max() < vocabulary):
            rows.append(row)
    if not rows:
        raise VerificationError(
            f"{model.source}: its tokenizer makes nothing of a text that the model has embeddings "
            "for, so there is nothing to compare. Restore the tokenizer files that belong to the "
            "weights."
        )
    pad_id = padding_id(runtime, tokenizer)
    if runtime.equal_lengths or result.equal_lengths:
        shapes = [([row, row], "right") for row in rows]
    else:
        other = "left" if both_sides and result.any_padding_side else "right"
        shapes = [(rows[i : i + 5], "right") for i in range(0, len(rows), 5)]
        mixed = [row for row in rows if len(row[0]) <= MOST_MIXED_TOKENS] or rows
        shapes += [(mixed[i::4], other) for i in range(min(4, len(mixed)))]
        longest = max(rows, key=lambda row: len(row[0]))
        if len(longest[0]) > MOST_MIXED_TOKENS:
            shapes.append(([rows[0], longest], other))
    shapes += [([row], "right") for row in (rows[0], rows[-1])]
    for group, side in shapes:
        lengths = np.array([len(ids) for ids, _ in group], dtype=np.int64)
        ids, types = (np.concatenate([row[part] for row in group]) for part in (0, 1))
        yield pad(ids, lengths, pad_id, side, type_ids=types)


def workers_for(runtime: Runtime, number: int, batch: TokenBatch) -> int:
    """How many the batch of this number has: now one, now as many as `encode` takes for many texts,
    for which a runtime may have compiled the model another time.

    Each of many computes with a single thread: too long for large batches.
    """
    if number % 2 == 0 or batch.width > MOST_MIXED_TOKENS:
        return 1
    return runtime.preferred_workers(_MANY_BATCHES)
