"""How far an artifact drifts from what it was made from, in the measure of its kind of model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.architecture.batch import TokenBatch
from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE
from core.artifacts.artifact import Artifact, OutputsVerification
from core.engine.outputs import join_outputs
from core.engine.runtime import Runtime
from core.errors import CoreError, PluginError, VerificationError
from core.models.model import Model
from core.operations.embedding_agreement import check_embeddings, compare
from core.operations.judging import Thresholds
from core.operations.output_agreement import check_outputs, compare_outputs, outputs_of
from core.operations.probes import probe_batches, probe_pairs, probe_texts, workers_for
from core.operations.score_agreement import check_scores, compare_scores
from core.operations.sparse_agreement import check_sparse, compare_sparse
from core.operations.vector_agreement import (
    check_vectors,
    compare_vectors,
    join_vectors,
    vector_batches,
    vectors_of,
)
from core.options import DENSE, EncodeOptions


@dataclass(frozen=True)
class _Measure:
    """How a kind of model is compared with its source.

    Attributes:
        inputs: What both are given.
        compute: A runtime's result for a batch, and so many workers.
        compare: The verification of both results.
        check: None when it is good, else the warning to give.
        batches: The batches of the inputs that both are given.
        join: All results of one of them, from those of the batches.
    """

    inputs: Callable[[], Sequence[Any]]
    compute: Callable[[Runtime, TokenBatch, int], Any]
    compare: Callable[[Any, Any], Any]
    check: Callable[[Artifact, Any, Thresholds], str | None]
    batches: Callable[[Any, Runtime, Sequence[Any]], Iterable[TokenBatch]] = probe_batches
    join: Callable[[Sequence[Any]], Any] = np.concatenate


_MEASURES: Mapping[str, _Measure] = {
    EMBEDDING: _Measure(
        probe_texts,
        lambda runtime, batch, workers: runtime.sentence_embeddings(batch, workers=workers),
        compare,
        check_embeddings,
    ),
    RERANKER: _Measure(
        probe_pairs,
        lambda runtime, batch, workers: runtime.scores(batch, workers=workers),
        compare_scores,
        check_scores,
        # A classification head reads the first token, which is padding on the left.
        batches=functools.partial(probe_batches, both_sides=False),
    ),
    MULTI_VECTOR: _Measure(
        probe_texts,
        vectors_of,
        compare_vectors,
        check_vectors,
        batches=vector_batches,
        join=join_vectors,
    ),
    SPARSE: _Measure(
        probe_texts,
        lambda runtime, batch, workers: runtime.sentence_embeddings(batch, workers=workers),
        compare_sparse,
        check_sparse,
    ),
}

#: Of an embedding model that gives other embeddings beside its own.
_OUTPUTS = _Measure(probe_texts, outputs_of, compare_outputs, check_outputs, join=join_outputs)


def check(artifact: Artifact, verification: Any, thresholds: Thresholds) -> str | None:
    """Judge a verification by the measure of its kind: None when it is good, else the warning.

    Raises:
        VerificationError: A full-precision artifact drifts too far.
        OptionError: A threshold is for another kind of model.
    """
    measure = _MEASURES[artifact.kind]
    if isinstance(verification, OutputsVerification):
        measure = _OUTPUTS
    return measure.check(artifact, verification, thresholds)


def verify(source: Model, result: Model) -> Any:
    """Give the probes to both, in the same batches, and compare.

    Returns:
        `Verification`, or what the kind has: `ScoreVerification`, `SparseVerification`,
        `VectorVerification`; `OutputsVerification` of an embedding model with several kinds of
        embeddings.

    Raises:
        VerificationError: The result fails on a batch that its source runs.
        PluginError: The source itself fails.
    """
    measure = _MEASURES[source.kind]
    outputs = getattr(source, "outputs", (DENSE,))
    if len(outputs) > 1 and outputs == getattr(result, "outputs", ()):
        measure = _OUTPUTS
    expected, actual = [], []
    if isinstance(source.runtime, Runtime) and isinstance(result.runtime, Runtime):
        for number, batch in enumerate(measure.batches(source, result.runtime, measure.inputs())):
            try:
                expected.append(measure.compute(source.runtime, batch, 1))
            except CoreError:
                raise
            except Exception as error:
                raise _failed(f"{source!r}, the source to compare with,", batch, error) from error
            try:
                workers = workers_for(result.runtime, number, batch)
                actual.append(measure.compute(result.runtime, batch, workers))
            except Exception as error:
                failed = _failed("The artifact", batch, error)
                raise VerificationError(
                    f"{failed} Its source runs them, so nothing was published: use the source "
                    "itself. Some architectures compute with a text's length in a way that an "
                    "export cannot keep."
                ) from error
    else:
        options = EncodeOptions(prompt="", outputs=outputs if measure is _OUTPUTS else None)
        for model, results in ((source, expected), (result, actual)):
            rows, given = model.prepare(measure.inputs(), options)
            results.append(model.hooks.raw_encode(model, rows, given))
    return measure.compare(measure.join(expected), measure.join(actual))


def _failed(what: str, batch: TokenBatch, error: Exception) -> PluginError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return PluginError(
        f"{what} fails on {batch.rows} texts of up to {batch.width} tokens: "
        f"{type(error).__name__}: {reason}."
    )
