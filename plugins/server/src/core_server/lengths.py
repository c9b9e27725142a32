"""How many tokens inputs have: estimated when they come, counted when they are computed.

To count them on arrival would make the event loop tokenize, and wait for the threads that compute
each time it does. Turns and batches need no more than an estimate: the engine cuts its own batches
inside the server's by what it counts itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Bytes of a token, before anything was counted; and always for backends without a tokenizer.
_BYTES_PER_TOKEN = 4.0
#: Special tokens around an input, about.
_SPECIAL = 2
#: Characters of a text whose bytes are counted, for its own share.
_SAMPLE = 1_000
#: How much one batch counts.
_WEIGHT = 0.1


class Lengths:
    """Tokens of a model's inputs; the estimate learns from what was counted."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._bytes_per_token = _BYTES_PER_TOKEN
        self._most = model.max_seq_length

    def estimate(self, inputs: Sequence[Any]) -> list[int]:
        """About how many tokens the model reads of each input."""
        most, share = self._most, 1 / self._bytes_per_token
        sizes = (int(_size(one) * share) + _SPECIAL for one in inputs)
        return list(sizes) if most is None else [min(size, most) for size in sizes]

    def count(self, inputs: Sequence[Any], prompt: str) -> list[int]:
        """How many tokens the model reads of each, the prompt's included."""
        model = self._model
        if not model.has_tokenizer:
            return self.estimate(inputs)
        rows = model.with_prompt(inputs, prompt)
        counted: list[int] = model.tokenizer.encode(rows).lengths.tolist()
        self._learn(inputs, counted)
        return counted

    def _learn(self, inputs: Sequence[Any], counted: Sequence[int]) -> None:
        size = tokens = 0
        for one, count in zip(inputs, counted, strict=True):
            if self._most is None or count < self._most:  # nothing was cut
                size += _size(one)
                tokens += max(count - _SPECIAL, 0)
        if tokens:
            self._bytes_per_token += _WEIGHT * (max(size, 1) / tokens - self._bytes_per_token)


def _size(one: Any) -> int:
    """Bytes of a text or a pair; one for a character is right often enough, and quick."""
    return sum(_bytes(text) for text in (one if isinstance(one, tuple) else (one,)))


def _bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    sample = text[:_SAMPLE]
    return len(sample.encode("utf-8")) * len(text) // len(sample)
