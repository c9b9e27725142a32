"""What `core demo` needs to know of a kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: What every kind that searches is shown with.
QUERIES = ("How do I get to the coast?", "Who wrote 'To Kill a Mockingbird'?")
DOCUMENTS = (
    "A train to the coast leaves every hour.",
    "Harper Lee, an American novelist, is known for To Kill a Mockingbird.",
    "The novel Moby-Dick was written by Herman Melville.",
    "The coast road is closed in winter.",
    "Jane Austen was an English novelist.",
    "Bake the bread for forty minutes, until the crust is brown.",
)
#: How many inputs a kind is measured with at once.
INPUTS_A_TURN = 96


@dataclass(frozen=True)
class Demonstration:
    """How a kind of model is shown. What runs on a model gets it loaded.

    Attributes:
        name: The model shown unless another is named.
        inputs: What it takes, in the plural.
        drift_title: Head of the column of `drift`.
        drift_note: A sentence on it.
        find: Where that model lies, where it may lie elsewhere than on the Hub.
        show: Prints what it makes of a few inputs.
        compare: How far the second model is from the first, for that column.
        drift: The same of an artifact's verification.
        run: Runs as many inputs as it returns; the number keeps turns apart.
        use: Prints what such models are for, by the fastest.
        command: What to type next, after "core": `{model}` is the model with its options.
    """

    name: str
    inputs: str
    drift_title: str
    drift_note: str
    find: Callable[[], str]
    show: Callable[[Any], None]
    compare: Callable[[Any, Any], str]
    drift: Callable[[Any], str]
    run: Callable[[Any, int], int]
    use: Callable[[Any], None]
    command: str


def texts_of_turn(count: int, turn: int) -> list[str]:
    """So many documents, none of which another turn has."""
    return [f"{DOCUMENTS[i % len(DOCUMENTS)]} Take {i} of round {turn}." for i in range(count)]


def encode_documents(model: Any, turn: int) -> int:
    """Encode some documents; how many. No other turn has the same."""
    texts = texts_of_turn(INPUTS_A_TURN, turn)
    model.encode_document(texts, show_progress_bar=False)
    return len(texts)


def cell(measure: float, ranks: float) -> str:
    """Of the column of `drift`: a kind's own measure, and the correlation of the order."""
    return f"{measure:.4f}, {ranks:.4f}"


def print_best(model: Any) -> None:
    """The best documents of each query, by a model that has `similarity`."""
    print(f"\nThe best of {len(DOCUMENTS)} documents by {model.backend} {model.dtype}:")
    print_search(model, QUERIES, DOCUMENTS)


def print_search(model: Any, queries: Sequence[str], documents: Sequence[str]) -> None:
    """The two nearest documents of each query."""
    found = model.similarity(model.encode_query(queries), model.encode_document(documents))
    for query, scores in zip(queries, found, strict=True):
        print(f"  {query}")
        for position in scores.argsort()[::-1][:2]:
            print(f"    {scores[position]:.3f}  {documents[position]}")
