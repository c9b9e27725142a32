"""What `core demo` shows of a reranker: scores of pairs, and documents in their order."""

from __future__ import annotations

from typing import Any

from core.cli.demonstration import (
    DOCUMENTS,
    INPUTS_A_TURN,
    QUERIES,
    Demonstration,
    cell,
    texts_of_turn,
)

MODEL_NAME = "cross-encoder/ms-marco-MiniLM-L6-v2"


def _pairs() -> list[tuple[str, str]]:
    return [(query, document) for query in QUERIES for document in DOCUMENTS]


def _scores(model: Any) -> Any:
    """The scores of a few pairs before any activation function, the first label's."""
    import numpy as np

    scores = model.predict(_pairs(), activation_fn="Identity")
    return np.asarray(scores).reshape(len(scores), -1)[:, 0]


def _show(model: Any) -> None:
    import numpy as np

    scores = model.predict(_pairs()[: len(DOCUMENTS)])
    labels = "" if len(model.labels) == 1 else f" ({', '.join(model.labels)})"
    print(f"\nScores with {QUERIES[0]!r}{labels}:")
    for document, score in zip(DOCUMENTS, np.asarray(scores), strict=True):
        print("  " + "  ".join(f"{value:7.4f}" for value in np.atleast_1d(score)) + f"  {document}")


def _compare(first: Any, model: Any) -> str:
    from core.engine.ranks import spearman

    expected, found = _scores(first), _scores(model)
    return cell(abs(expected - found).max(), spearman(expected, found))


def _drift(verification: Any) -> str:
    return cell(verification.max_score_difference, verification.rank_correlation)


def _run(model: Any, turn: int) -> int:
    texts = texts_of_turn(INPUTS_A_TURN, turn)
    pairs = [(f"{QUERIES[i % 2]} ({i})", text) for i, text in enumerate(texts)]
    model.predict(pairs, show_progress_bar=False)
    return len(pairs)


def _use(model: Any) -> None:
    """The best documents."""
    if len(model.labels) > 1:  # which no document is best by
        return
    print(f"\nThe best of {len(DOCUMENTS)} documents by {model.backend} {model.dtype}:")
    for query in QUERIES:
        print(f"  {query}")
        for entry in model.rank(query, DOCUMENTS, top_k=2, return_documents=True):
            print(f"    {entry['score']:.3f}  {entry['text']}")


DEMONSTRATION = Demonstration(
    name=MODEL_NAME,
    inputs="pairs",
    drift_title="DIFFERENCE, RANKS",
    drift_note="DIFFERENCE is the largest of a score, before the activation function, and RANKS "
    "the correlation of the order, between float32 and {first}, and between int8 and its own "
    "float32: 0 and 1 are equal.",
    find=lambda: MODEL_NAME,
    show=_show,
    compare=_compare,
    drift=_drift,
    run=_run,
    use=_use,
    command='rerank {model} "your own query" "a document" "another"',
)
