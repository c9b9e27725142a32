"""Rerankers, sparse encoders and multi-vector models on the device, against core on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.checkpoints import made
from benchmarks.gpu.agreement import compare
from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import Row, in_words
from tests import tiny_kinds
from tests.tiny_models import CORPUS

_DTYPES = ("float32", "float16", "auto")
_MODELS = (
    "reranker-bert", "reranker-xlm-roberta", "reranker-modernbert", "splade",
    "splade-bare-distilbert", "colbert",
)  # fmt: skip
#: Words of the texts, whose sentences are those the tokenizers of these models know.
_WORDS = (1, 2, 5, 9, 14, 30, 60, 90)


def rows(setting: Setting) -> Iterator[Row]:
    """A row for each model and dtype. The models are the tiny ones of the tests."""
    words = " ".join(CORPUS[:6]).split()
    texts = [" ".join(words[place : place + count]) for place, count in enumerate(_WORDS)]
    for name in _MODELS:
        folder = made(
            setting.work / f"{name}-tiny-v{tiny_kinds.VERSION}",
            lambda target, one=name: tiny_kinds.build(one, target),  # type: ignore[misc]
        )
        expected, _ = _computed(name, folder, "cpu", "float32", texts)
        for dtype in _DTYPES:
            row: Row = {"model": name, "asked": dtype}
            try:
                found, ran = _computed(name, folder, setting.device, dtype, texts)
                row |= {"dtype": ran} | compare(*_centered(name, found, expected), ran)
            except Exception as error:
                row |= {"passed": False, "error": in_words(error)}
            yield row


def _computed(
    name: str, folder: Path, device: str, dtype: str, texts: list[str]
) -> tuple[NDArray[np.float32], str]:
    """What a model makes of the texts, as rows of numbers; and what it computed in."""
    load, numbers = _kind(name)
    arguments = {"backend": "torch", "device": device, "model_kwargs": {"dtype": dtype}}
    with load(folder, **arguments) as opened:
        return numbers(opened, texts), opened.dtype


def _kind(
    name: str,
) -> tuple[Callable[..., Any], Callable[[Any, list[str]], NDArray[np.float32]]]:
    import core

    if name in tiny_kinds.RERANKERS:
        return core.load_reranker, _scores
    if name in tiny_kinds.SPARSE:
        return core.load_sparse, _weights
    return core.load_multi_vector, _vectors


def _scores(opened: Any, texts: list[str]) -> NDArray[np.float32]:
    """A row for each label: its scores of all pairs, before the activation function."""
    pairs = [(texts[3], text) for text in texts] + [(text, texts[5]) for text in texts]
    scores = opened.predict(pairs, activation_fn=lambda logits: logits)
    return np.asarray(scores, dtype=np.float32).reshape(len(pairs), -1).T


def _weights(opened: Any, texts: list[str]) -> NDArray[np.float32]:
    """A row for each text: the weights of the whole vocabulary."""
    found = opened.encode(texts)
    result = np.zeros(found.shape, dtype=np.float32)
    for place, (start, end) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True)):
        result[place, found.indices[start:end]] = found.values[start:end]
    return result


def _vectors(opened: Any, texts: list[str]) -> NDArray[np.float32]:
    """A row for each token that has a vector, of all texts."""
    return np.concatenate(opened.encode(texts))


def _centered(
    name: str, found: NDArray[np.float32], expected: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores without what all pairs have in common: else their cosine would say nothing."""
    if name not in tiny_kinds.RERANKERS:
        return found, expected
    common = expected.mean(axis=1, keepdims=True)
    return found - common, expected - common
