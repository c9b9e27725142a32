"""`core rerank`: a query and documents in, the documents by their scores out."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from core.cli.arguments import add_batching, add_model, as_utf8, batching_of, load_model
from core.cli.texts import add_texts, check_input, read_texts
from core.machine.surroundings import stderr_is_terminal
from core.options import EncodeOptions, check_positive


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "rerank",
        help="order documents by how well they answer a query",
        description="Order documents given as arguments, from a file or from standard input, by "
        "how well they answer a query.",
    )
    add_model(parser)
    parser.add_argument("query", metavar="QUERY")
    add_texts(parser, "document")
    parser.add_argument("-k", "--top-k", type=int, help="how many documents to print (all)")
    parser.add_argument("--max-length", type=int, help="tokens of a pair (the model's limit)")
    add_batching(parser, "pairs", prompted="the query")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(core_command=run)


def run(parsed: argparse.Namespace) -> None:
    """Score and print."""
    check_input(parsed, "documents")
    check_positive("top_k", parsed.top_k)
    check_positive("max_length", parsed.max_length)
    options = batching_of(parsed)
    EncodeOptions(**options)
    with load_model(parsed, "reranker") as model:
        if parsed.max_length is not None:
            model.max_seq_length = parsed.max_length
        ranked = model.rank(
            as_utf8(parsed.query),
            list(read_texts(parsed)),
            top_k=parsed.top_k,
            return_documents=True,
            show_progress_bar=stderr_is_terminal(),
            **options,
        )
        if parsed.json:
            found = {"backend": model.backend, "device": model.device, "results": ranked}
            print(json.dumps(found, ensure_ascii=_escapes()))
            return
    for entry in ranked:
        text = " ".join(entry["text"].split())
        print(f"{entry['score']:10.6f}  {entry['corpus_id']:5}  {text}")


def _escapes() -> bool:
    """JSON has escapes of its own for what the encoding of standard output may lack."""
    return (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
