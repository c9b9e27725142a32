"""What `core demo` shows of a multi-vector model: its vectors, and a search by MaxSim."""

from __future__ import annotations

from typing import Any

from core.cli.demonstration import (
    DOCUMENTS,
    QUERIES,
    Demonstration,
    cell,
    encode_documents,
    print_best,
)

MODEL_NAME = "colbert-ir/colbertv2.0"


def _show(model: Any) -> None:
    print("\nVectors of each document, [tokens, dimension]:")
    for document, vectors in zip(DOCUMENTS, model.encode_document(DOCUMENTS), strict=True):
        print(f"  {list(vectors.shape)}  {document}")


def _compare(first: Any, model: Any) -> str:
    import numpy as np

    from core.engine.ranks import spearman

    scores = []
    for one in (first, model):
        queries = one.encode_query(QUERIES)
        lengths = np.array([len(vectors) for vectors in queries])[:, None]
        scores.append((one.similarity(queries, one.encode_document(DOCUMENTS)) / lengths).ravel())
    return cell(abs(scores[0] - scores[1]).mean(), spearman(*scores))


def _drift(verification: Any) -> str:
    return cell(verification.mean_maxsim_difference, verification.rank_correlation)


DEMONSTRATION = Demonstration(
    name=MODEL_NAME,
    inputs="texts",
    drift_title="DIFFERENCE, RANKS",
    drift_note="DIFFERENCE is the mean of MaxSim for each vector of a query, and RANKS the "
    "correlation of the order, between float32 and {first}, and between int8 and its own "
    "float32: 0 and 1 are equal.",
    find=lambda: MODEL_NAME,
    show=_show,
    compare=_compare,
    drift=_drift,
    run=encode_documents,
    use=print_best,
    command='encode {model} "your own text"',
)
