"""How far an artifact drifts from what it was made from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.architecture.limits import position_limit
from core.architecture.modules import unit_length
from core.artifacts.artifact import FULL_PRECISIONS, Artifact, Verification
from core.engine.batching import pad
from core.engine.limits import known_vocabulary, padding_id
from core.engine.runtime import Runtime
from core.engine.similarity import row_cosines
from core.errors import CoreError, PluginError, VerificationError
from core.models.embedding import EmbeddingModel
from core.options import FULL_PRECISION_MIN_COSINE, EncodeOptions

#: Words of the probe texts' lengths: single tokens, batches around sizes that kernels round to.
_PROBE_WORDS = (1, 2, 3, 5, 8, 13, 16, 21, 31, 33, 48, 64, 90, 127, 200, 350)

_MAX_PROBE_TOKENS = 512

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


def verify(source: EmbeddingModel, result: EmbeddingModel) -> Verification:
    """Embed the probe texts with both, in the same batches, and compare.

    Raises:
        VerificationError: The result fails on a batch that its source runs.
        PluginError: The source itself fails.
    """
    expected, actual = [], []
    if isinstance(source.runtime, Runtime) and isinstance(result.runtime, Runtime):
        for batch in _probe_batches(source, result.runtime):
            try:
                expected.append(source.runtime.sentence_embeddings(batch))
            except CoreError:
                raise
            except Exception as error:
                raise _failed(f"{source!r}, the source to compare with,", batch, error) from error
            try:
                actual.append(result.runtime.sentence_embeddings(batch))
            except Exception as error:
                failed = _failed("The artifact", batch, error)
                raise VerificationError(
                    f"{failed} Its source runs them, so nothing was published: use the source "
                    "itself. Some architectures compute with a text's length in a way that an "
                    "export cannot keep."
                ) from error
    else:
        texts, options = probe_texts(), EncodeOptions(prompt="")
        expected.append(source.hooks.encode(model=source, texts=texts, options=options))
        actual.append(result.hooks.encode(model=result, texts=texts, options=options))
    return compare(np.concatenate(expected), np.concatenate(actual))


def _failed(what: str, batch: TokenBatch, error: Exception) -> PluginError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return PluginError(
        f"{what} fails on {batch.rows} texts of up to {batch.width} tokens: "
        f"{type(error).__name__}: {reason}."
    )


def compare(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> Verification:
    """Drift of `actual` from `expected`, both float32 [n, dimension], row by row."""
    if expected.shape != actual.shape:
        raise VerificationError(
            f"The artifact gives embeddings of shape {list(actual.shape)}, its source "
            f"{list(expected.shape)}."
        )
    if not np.isfinite(actual).all():
        raise VerificationError(
            "The artifact gives embeddings that are not finite numbers; it is not published."
        )
    first = unit_length(np, expected.astype(np.float64))
    second = unit_length(np, actual.astype(np.float64))
    cosines = row_cosines(expected, actual)
    return Verification(
        texts=len(cosines),
        mean_cosine=float(cosines.mean()),
        p1_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        max_abs_difference=float(np.abs(first - second).max()),
    )


def check(artifact: Artifact, verification: Verification, min_cosine: float | None) -> str | None:
    """Judge a verification: None when it is good, else the warning to give.

    Full-precision artifacts are judged by their minimum cosine and fail; others by their mean
    cosine, and only when the caller set a threshold.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
    if artifact.precision in FULL_PRECISIONS:
        threshold = FULL_PRECISION_MIN_COSINE if min_cosine is None else min_cosine
        if verification.min_cosine < threshold:
            raise VerificationError(
                f"{artifact.file_name} is {artifact.precision} and must agree with its source to a "
                f"minimum cosine of {threshold}; it reaches {verification.min_cosine:.6f} "
                f"({verification}). Nothing was published."
            )
        return None
    threshold = _REDUCED_MEAN_COSINE if min_cosine is None else min_cosine
    if verification.mean_cosine < threshold:
        whose = "usually reached" if min_cosine is None else "asked for (min_cosine)"
        return (
            f"{artifact.file_name} drifts from its source: {verification}, under the mean of "
            f"{threshold} {whose}. It was written anyway: fewer bits always drift. Check it "
            "on your own data before using it."
        )
    return None


_REDUCED_MEAN_COSINE = 0.97


def _probe_batches(model: EmbeddingModel, result: Runtime) -> Iterator[TokenBatch]:
    """Mixed and single-text batches, padded as `encode` pads them and on the other side.

    Raises:
        VerificationError: The model has no embedding for a token of each probe text.
    """
    tokenizer, runtime = model.tokenizer, model.runtime
    tokenized = tokenizer.encode(probe_texts())
    limit = min(
        tokenizer.max_length or _MAX_PROBE_TOKENS,
        position_limit(runtime.architecture.config) or _MAX_PROBE_TOKENS,
        _MAX_PROBE_TOKENS,
    )
    rows = []
    for ids in np.split(tokenized.ids, np.cumsum(tokenized.lengths)[:-1]):
        # Cutting keeps the closing special token, as truncation would.
        rows.append(ids if len(ids) <= limit else np.concatenate([ids[: limit - 1], ids[-1:]]))
    vocabulary = known_vocabulary(runtime)
    rows = [row for row in rows if len(row) and (vocabulary is None or row.max() < vocabulary)]
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
        other = "left" if result.any_padding_side else "right"
        shapes = [(rows[i : i + 5], "right") for i in range(0, len(rows), 5)]
        shapes += [(rows[i::4], other) for i in range(min(4, len(rows)))]
    shapes += [([row], "right") for row in (rows[0], rows[-1])]
    for group, side in shapes:
        lengths = np.array([len(row) for row in group], dtype=np.int64)
        yield pad(np.concatenate(group), lengths, pad_id, side)
