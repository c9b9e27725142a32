"""`core similarity`: texts in, how alike each is to each out, by the model's own measure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.architecture.kinds import EMBEDDING, KINDS, MULTI_VECTOR, RERANKER, SPARSE
from core.cli.arguments import (
    add_batching,
    add_json,
    add_model,
    batching_of,
    kind_of,
    load_model,
    print_table,
)
from core.cli.texts import add_texts, check_input, read_texts
from core.errors import OptionError
from core.hub.download import listing_once
from core.options import EncodeOptions

#: Of a model, texts and options of `encode` to scores [texts, texts].
_Scorer = Callable[[Any, Sequence[str], Mapping[str, Any]], Any]


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "similarity",
        help="compare texts, each with each",
        description="Compare texts given as arguments, from a file or from standard input, by the "
        "model's own measure. Of a sparse encoder, a multi-vector model and a reranker each row is "
        "a query and each column a document.",
    )
    add_model(parser)
    add_texts(parser, "text")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="what to load the model as, where its files fit several kinds; its own if absent",
    )
    add_batching(parser, "texts", prompted="every text")
    add_json(parser)
    parser.set_defaults(core_command=run)


@listing_once()
def run(parsed: argparse.Namespace) -> None:
    """Compare and print."""
    check_input(parsed, "texts")
    given = batching_of(parsed)
    EncodeOptions(**given)
    options = {name: value for name, value in given.items() if value is not None}
    with load_model(parsed, parsed.kind or kind_of(parsed)) as model:
        texts = list(read_texts(parsed))
        scores = _SCORERS[model.kind](model, texts, options)
        found = {
            "kind": model.kind,
            "similarity": getattr(model, "similarity_fn_name", "score"),
            "backend": model.backend,
            "device": model.device,
            "scores": [[float(score) for score in row] for row in scores],
        }
    if parsed.json:
        print(json.dumps(found))
        return
    numbers = [str(number) for number in range(1, len(texts) + 1)]
    rows = [
        (number, *(f"{score:.4f}" for score in row), " ".join(text.split()))
        for number, row, text in zip(numbers, found["scores"], texts, strict=True)
    ]
    print_table([("", *numbers, f"({found['similarity']})"), *rows])


def _by_embeddings(model: Any, texts: Sequence[str], options: Mapping[str, Any]) -> Any:
    embeddings = model.encode(texts, **options)
    return model.similarity(embeddings, embeddings)


def _by_tasks(model: Any, texts: Sequence[str], options: Mapping[str, Any]) -> Any:
    """What tells queries and documents apart."""
    queries = model.encode_query(texts, **options)
    return model.similarity(queries, model.encode_document(texts, **options))


def _by_pairs(model: Any, texts: Sequence[str], options: Mapping[str, Any]) -> Any:
    if len(model.labels) != 1:
        raise OptionError(
            f"{model!r} gives {len(model.labels)} scores for a pair ({', '.join(model.labels)}), "
            "and texts are compared by one. Name a reranker with one label."
        )
    pairs = [(query, document) for query in texts for document in texts]
    return model.predict(pairs, **options).reshape(len(texts), len(texts))


_SCORERS: Mapping[str, _Scorer] = {
    EMBEDDING: _by_embeddings,
    SPARSE: _by_tasks,
    MULTI_VECTOR: _by_tasks,
    RERANKER: _by_pairs,
}
