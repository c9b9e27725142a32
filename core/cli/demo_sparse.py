"""What `core demo` shows of a sparse encoder: the words of a text, and a search by them."""

from __future__ import annotations

from typing import Any

from core.cli.demonstration import DOCUMENTS, Demonstration, cell, encode_documents, print_best

MODEL_NAME = "naver/splade-cocondenser-ensembledistil"

_WORDS = 5


def _show(model: Any) -> None:
    from core.errors import UnsupportedOperation

    embeddings = model.encode_document(DOCUMENTS)
    try:
        rows = model.decode(embeddings, top_k=_WORDS)
        print("\nThe heaviest words of each document:")
    except UnsupportedOperation:  # an autoencoder's dimensions are no words
        rows = [list(row.items())[:_WORDS] for row in embeddings.to_dicts()]
        print("\nThe heaviest dimensions of each document:")
    for document, row in zip(DOCUMENTS, rows, strict=True):
        print(f"  {document}")
        print("    " + ", ".join(f"{word} {weight:.2f}" for word, weight in row))


def _compare(first: Any, model: Any) -> str:
    import numpy as np

    from core.engine.ranks import spearman

    expected, found = (m.encode_document(DOCUMENTS) for m in (first, model))
    overlaps = [
        len(a.keys() & b.keys()) / max(len(a.keys() | b.keys()), 1)
        for a, b in zip(expected.to_dicts(), found.to_dicts(), strict=True)
    ]
    pairs = np.triu_indices(len(DOCUMENTS))
    orders = [m.similarity(rows, rows)[pairs] for m, rows in ((first, expected), (model, found))]
    return cell(sum(overlaps) / len(overlaps), spearman(*orders))


def _drift(verification: Any) -> str:
    return cell(verification.mean_overlap, verification.rank_correlation)


DEMONSTRATION = Demonstration(
    name=MODEL_NAME,
    inputs="texts",
    drift_title="OVERLAP, RANKS",
    drift_note="OVERLAP is the share of a text's dimensions that both have, and RANKS the "
    "correlation of the order of dot products, between float32 and {first}, and between int8 and "
    "its own float32: 1 is equal.",
    find=lambda: MODEL_NAME,
    show=_show,
    compare=_compare,
    drift=_drift,
    run=encode_documents,
    use=print_best,
    command='encode {model} "your own text"',
)
