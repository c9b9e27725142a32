"""How far several kinds of embeddings of one pass drift, each in a measure of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.artifacts.artifact import FULL_PRECISIONS, Artifact, OutputsVerification
from core.engine.limits import known_vocabulary
from core.engine.outputs import batch_outputs
from core.engine.runtime import Runtime
from core.engine.similarity import row_cosines
from core.engine.sparse import SparseEmbeddings
from core.errors import VerificationError
from core.operations.embedding_agreement import check_embeddings, compare
from core.operations.judging import REDUCED_MEAN_COSINE, Thresholds, check_comparable, shown_under
from core.options import DENSE, FULL_PRECISION_MIN_COSINE, MULTI_VECTOR, SPARSE

#: Words whose weights are under this part of the largest of any text's count as absent: rounding
#: moves them over 0 and back.
_NOISE = 1e-4


def outputs_of(runtime: Runtime, batch: TokenBatch, workers: int) -> dict[str, Any]:
    """All kinds of embeddings of a batch; each token has its weight, whatever it is."""
    computed = runtime.outputs(batch, runtime.architecture.outputs, workers=workers)
    vocabulary = known_vocabulary(runtime) or int(batch.input_ids.max()) + 1
    return batch_outputs(computed, batch, vocabulary, ())


def compare_outputs(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> OutputsVerification:
    """Drift of `actual` from `expected`, both as `core.engine.outputs` has them, text by text.

    Raises:
        VerificationError: Other shapes, or numbers that are not finite.
    """
    dense = compare(expected[DENSE], actual[DENSE])
    values: dict[str, float] = {}
    if SPARSE in expected:
        values.update(_compare_sparse(expected[SPARSE], actual[SPARSE]))
    if MULTI_VECTOR in expected:
        values.update(_compare_vectors(expected[MULTI_VECTOR], actual[MULTI_VECTOR]))
    return OutputsVerification(
        texts=dense.texts,
        mean_cosine=dense.mean_cosine,
        p1_cosine=dense.p1_cosine,
        min_cosine=dense.min_cosine,
        max_abs_difference=dense.max_abs_difference,
        **values,
    )


def _compare_sparse(expected: SparseEmbeddings, actual: SparseEmbeddings) -> dict[str, float]:
    largest = float(expected.values.max(initial=0.0))
    overlaps, cosines = [], []
    for first, second in zip(expected, actual, strict=True):
        words = np.union1d(first.indices, second.indices)
        one, other = (_on(words, row) for row in (first, second))
        check_comparable(one[None], other[None], "sparse embeddings")
        present = [values > _NOISE * largest for values in (one, other)]
        either = int((present[0] | present[1]).sum())
        overlaps.append(int((present[0] & present[1]).sum()) / either if either else 1.0)
        kept = (one * present[0], other * present[1])
        cosines.append(row_cosines(kept[0][None], kept[1][None])[0] if either else 1.0)
    return {
        "sparse_mean_overlap": float(np.mean(overlaps)),
        "sparse_mean_cosine": float(np.mean(cosines)),
        "sparse_min_cosine": float(np.min(cosines)),
    }


def _on(words: NDArray[np.int32], row: SparseEmbeddings) -> NDArray[np.float32]:
    """The weights of one text on these words, which are all of its own and more."""
    values = np.zeros(len(words), np.float32)
    values[np.searchsorted(words, row.indices)] = row.values
    return values


def _compare_vectors(
    expected: Sequence[NDArray[np.float32]], actual: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    first, second = np.concatenate(expected), np.concatenate(actual)
    check_comparable(first, second, "multi-vector embeddings")
    cosines = row_cosines(first, second)
    return {
        "multi_vector_mean_cosine": float(cosines.mean()),
        "multi_vector_min_cosine": float(cosines.min()),
    }


def check_outputs(
    artifact: Artifact, verification: OutputsVerification, thresholds: Thresholds
) -> str | None:
    """Judge a verification: None when it is good, else the warning to give.

    Each kind of embeddings is judged by cosines, as `check_embeddings` judges dense ones.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
    """
    warning = check_embeddings(artifact, verification, thresholds)
    full = artifact.precision in FULL_PRECISIONS
    usual = FULL_PRECISION_MIN_COSINE if full else REDUCED_MEAN_COSINE
    threshold = usual if thresholds.min_cosine is None else thresholds.min_cosine
    found = {
        name: getattr(verification, f"{name}_{'min' if full else 'mean'}_cosine")
        for name in (SPARSE, MULTI_VECTOR)
    }
    low = {n: value for n, value in found.items() if value is not None and value < threshold}
    if not low:
        return warning
    shown = ", ".join(f"{n} {shown_under(value, threshold)}" for n, value in low.items())
    if full:
        raise VerificationError(
            f"{artifact.file_name} is {artifact.precision} and must agree with its source to a "
            f"minimum cosine of {threshold} in every kind of embeddings: {shown} "
            f"({verification}). Nothing was published."
        )
    return warning or (
        f"{artifact.file_name} drifts from its source: {verification}; the mean of {shown} is "
        f"under {threshold}. It was written anyway: fewer bits always drift. Check it on your own "
        "data before using it."
    )
