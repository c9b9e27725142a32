"""How far a multi-vector model drifts: the cosines of its tokens' vectors, and MaxSim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.artifacts.artifact import Artifact, VectorVerification
from core.engine.encode import scored_batches
from core.engine.maxsim import maxsim
from core.engine.ranks import rank_correlation
from core.engine.runtime import Runtime
from core.engine.similarity import row_cosines
from core.engine.token_vectors import cut_out
from core.operations.judging import Thresholds, check_comparable, check_cosines
from core.operations.probes import probe_batches
from core.options import EncodeOptions

#: Texts that are compared with all others by MaxSim, as queries.
_QUERIES = 8

Vectors = list[NDArray[np.float32]]


def vector_batches(model: Any, result: Runtime, inputs: Sequence[str]) -> Iterator[TokenBatch]:
    """The texts as `probe_batches` has them, and as queries where the model fills those up."""
    yield from probe_batches(model, result, inputs)
    if model.query_expansion is None:
        return
    rows = model.with_prompt(inputs, "")
    for size in (5, 1):
        some = rows if size > 1 else rows[:: len(rows) - 1]
        options = EncodeOptions(task="query", batch_size=size)
        for _, batch in scored_batches(model, some, options):
            yield batch


def vectors_of(runtime: Runtime, batch: TokenBatch, workers: int) -> Vectors:
    """A runtime's vectors of each text."""
    return cut_out(runtime.token_vectors(batch, workers=workers), batch)


def join_vectors(results: Sequence[Vectors]) -> Vectors:
    """Those of several batches."""
    return [row for result in results for row in result]


def compare_vectors(expected: Vectors, actual: Vectors) -> VectorVerification:
    """Drift of `actual` from `expected`, lists of float32 [tokens, dimension], text by text.

    Raises:
        VerificationError: Other shapes, or numbers that are not finite.
    """
    for first, second in zip(expected, actual, strict=True):
        check_comparable(first, second, "vectors")
    first, second = np.concatenate(expected), np.concatenate(actual)
    cosines = row_cosines(first, second)
    scores, others = (_scores(side) for side in (expected, actual))
    difference = np.abs(scores - others)
    return VectorVerification(
        texts=len(expected),
        vectors=len(first),
        mean_cosine=float(cosines.mean()),
        p1_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        mean_maxsim_difference=float(difference.mean()),
        max_maxsim_difference=float(difference.max()),
        rank_correlation=min(map(rank_correlation, scores, others)),
    )


def _scores(vectors: Vectors) -> NDArray[np.float64]:
    """Mean MaxSim of a few texts, as queries, with all."""
    filled = [row for row in vectors if len(row)]
    queries = filled[:: max(1, len(filled) // _QUERIES)]
    return maxsim(queries, filled, "meanmaxsim").astype(np.float64)


def check_vectors(
    artifact: Artifact, verification: VectorVerification, thresholds: Thresholds
) -> str | None:
    """As `check_cosines`."""
    for name in ("max_score_difference", "min_overlap"):
        thresholds.refuse(name, "vectors of tokens are judged by min_cosine")
    return check_cosines(artifact, verification, thresholds.min_cosine)
