"""`core encode`: texts in, embeddings out: dense, sparse, or vectors of their tokens."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from core.architecture.kinds import KINDS
from core.arguments import check_path
from core.cli.arguments import (
    add_batching,
    add_model,
    add_results,
    batching_of,
    kind_of,
    load_model,
)
from core.cli.texts import add_texts, check_input, read_texts
from core.errors import OptionError
from core.files.staging import explained_writes, staging_directory
from core.hub.download import listing_once
from core.machine.surroundings import stderr_is_terminal
from core.options import EMBEDDING_PRECISIONS, EncodeOptions

#: Kinds of model that it runs, to the ending of a file that holds all embeddings as arrays.
_ARRAYS = {"embedding": ".npy", "sparse": ".npz", "multi_vector": ".npz"}


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "encode",
        help="embed texts",
        description="Embed texts given as arguments, from a file or from standard input. A sparse "
        "encoder gives the values that are not zero, a multi-vector model a vector for each token.",
    )
    add_model(parser)
    add_texts(parser, "text")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=".npy (of other kinds .npz) or .jsonl; absent: .jsonl on stdout",
    )
    parser.add_argument(
        "--kind",
        choices=_ARRAYS,
        help="what to load the model as, where its files fit several kinds; its own if absent",
    )
    add_batching(parser, "texts", prompted="every text")
    add_results(parser, EMBEDDING_PRECISIONS)
    parser.add_argument("--json", action="store_true", help="print a JSON summary for machines")
    parser.set_defaults(core_command=run)


@listing_once()
def run(parsed: argparse.Namespace) -> None:
    """Embed and write."""
    check_input(parsed, "texts")
    batching = batching_of(parsed)
    output = None if parsed.output is None else check_path("--output", parsed.output)
    if output is not None and output.suffix not in (*_ARRAYS.values(), ".jsonl"):
        raise OptionError(
            "--output must end in .npy or .jsonl, of other kinds of model in .npz or .jsonl, not "
            f"{output.name!r}."
        )
    if output is not None:
        _check_place(output)
    if output is None and parsed.json:
        raise OptionError("--json prints a summary on standard output: give --output FILE too.")
    EncodeOptions(
        truncate_dim=parsed.truncate_dim, max_active_dims=parsed.max_active_dims, **batching
    )
    kind = parsed.kind or kind_of(parsed)
    if kind in _ARRAYS:
        _check_kind_options(parsed, kind)
    else:  # loading says what it is
        kind = "embedding"
    _check_form(output, kind)
    with load_model(parsed, kind) as model:
        texts = read_texts(parsed)
        count = _write(output, _embed(model, texts, parsed), model.kind)
        if output is not None:
            width = model.dimension
            summary = {
                "output": str(output),
                "texts": count,
                "dimension": min(width, parsed.truncate_dim or width) if width else None,
                "precision": parsed.precision,
                "backend": model.backend,
                "device": model.device,
            }
            if parsed.json:
                print(json.dumps(summary))
            else:
                print(f"{count} embeddings written to {output}", file=sys.stderr)


def _check_kind_options(parsed: argparse.Namespace, kind: str) -> None:
    """Refuse an option of another kind of model in the words that it was given in."""
    for option, given, owners in (
        ("--pool-factor", parsed.pool_factor is not None, ("multi_vector",)),
        ("--max-active-dims", parsed.max_active_dims is not None, ("sparse",)),
        ("--truncate-dim", parsed.truncate_dim is not None, ("embedding",)),
        ("--precision", parsed.precision != "float32", ("embedding",)),
        ("--normalize", parsed.normalize, ("embedding", "multi_vector")),
    ):
        if given and kind not in owners:
            nouns = " or ".join(KINDS[owner].noun for owner in owners)
            raise OptionError(f"{option} is for {nouns}, and {parsed.model} is {KINDS[kind].noun}.")


def _check_place(output: Path) -> None:
    """Refuse an output that cannot be put where it is to go."""
    shown = f"--output {str(output)!r}"
    with explained_writes(output):
        place = _place_of(output)
        exists, regular, is_folder = place.exists(), place.is_file(), place.is_dir()
    folder = place.parent
    if not folder.is_dir():
        why = "is no directory" if folder.exists() else "does not exist"
        raise OptionError(f"{shown}: the directory {str(folder)!r} {why}.")
    if not os.access(folder, os.W_OK):
        raise OptionError(f"{shown}: the directory {str(folder)!r} is not writable.")
    if is_folder:
        raise OptionError(f"{shown} is a directory. Name a file in it.")
    if exists and not regular:
        raise OptionError(
            f"{shown} is no regular file. Leave it out, and redirect standard output."
        )


def _place_of(output: Path) -> Path:
    """Where an output goes: a link stays, and the file that it names is replaced."""
    return Path(os.path.realpath(output)) if output.is_symlink() else output


def _check_form(output: Path | None, kind: str) -> None:
    """Refuse a file that cannot hold what this kind of model gives."""
    from core.architecture.kinds import KINDS

    array = _ARRAYS[kind]
    if output is not None and output.suffix not in (array, ".jsonl"):
        noun = KINDS[kind].noun
        raise OptionError(f"--output of {noun} must end in {array} or .jsonl, not {output.name!r}.")


def _embed(
    model: Any, texts: Iterator[str], parsed: argparse.Namespace
) -> Iterator[tuple[list[str], Any]]:
    given = {
        **batching_of(parsed),
        "normalize_embeddings": parsed.normalize or None,
        "truncate_dim": parsed.truncate_dim,
        "precision": None if parsed.precision == "float32" else parsed.precision,
        "task": parsed.task,
        "token_pooling": parsed.pool_factor,
        "max_active_dims": parsed.max_active_dims,
        "show_progress_bar": stderr_is_terminal(),
    }
    # What is for another kind of model is refused where it is given.
    options = {name: value for name, value in given.items() if value is not None}
    if parsed.precision in ("int8", "uint8"):  # they take their ranges from all embeddings
        if rows := list(texts):
            yield rows, model.encode(rows, **options)
        return
    texts, source = itertools.tee(texts)
    for embeddings in model.encode_stream(source, **options):
        yield list(itertools.islice(texts, len(embeddings))), embeddings


def _write(output: Path | None, results: Iterator[tuple[list[str], Any]], kind: str) -> int:
    if output is not None and output.suffix == ".npy":
        return _write_npy(output, results)
    if output is not None and output.suffix == ".npz":
        write = _write_sparse if kind == "sparse" else _write_vectors
        return write(output, results)
    count = 0
    # JSON has escapes of its own for what the encoding of standard output may lack.
    escape = output is None and (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
    with _replacing(output, binary=False) as file:
        for texts, embeddings in results:
            for text, embedding in zip(texts, _as_json(embeddings), strict=True):
                record = {"text": text, **embedding}
                file.write(json.dumps(record, ensure_ascii=escape) + "\n")
            count += len(texts)
    return count


def _as_json(embeddings: Any) -> Iterator[dict[str, Any]]:
    """The fields of each embedding."""
    from core.engine.sparse import SparseEmbeddings

    if not isinstance(embeddings, SparseEmbeddings):
        yield from ({"embedding": embedding.tolist()} for embedding in embeddings)
        return
    for row in embeddings:
        yield {"indices": row.indices.tolist(), "values": row.values.tolist()}


def _write_npy(output: Path, results: Iterator[tuple[list[str], Any]]) -> int:
    import numpy as np

    parts = [embeddings for _, embeddings in results]
    array = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    with _replacing(output, binary=True) as file:
        np.save(file, array)
    return len(array)


def _write_sparse(output: Path, results: Iterator[tuple[list[str], Any]]) -> int:
    """Sparse embeddings as scipy stores them."""
    from core.engine.sparse import SparseEmbeddings

    parts = [embeddings for _, embeddings in results]
    rows = SparseEmbeddings.concatenate(parts) if parts else SparseEmbeddings.from_rows([], 0)
    with _replacing(output, binary=True) as file:
        rows.write(cast("BinaryIO", file))
    return len(rows)


def _write_vectors(output: Path, results: Iterator[tuple[list[str], Any]]) -> int:
    """Vectors of all tokens one after another, and how many each text has."""
    import numpy as np

    rows = [row for _, vectors in results for row in vectors]
    arrays = {
        "vectors": np.concatenate(rows) if rows else np.empty((0, 0), np.float32),
        "lengths": np.array([len(row) for row in rows], dtype=np.int64),
    }
    with _replacing(output, binary=True) as file:
        np.savez(file, allow_pickle=False, **arrays)
    return len(rows)


@contextmanager
def _replacing(output: Path | None, *, binary: bool) -> Iterator[IO[Any]]:
    """A file that takes its place only when whole; standard output for None."""
    if output is None:
        yield sys.stdout
        return
    place = _place_of(output)
    with explained_writes(output), staging_directory(place) as folder:
        whole = folder / "whole"
        with whole.open("wb") if binary else whole.open("w", encoding="utf-8") as file:
            yield file
        whole.replace(place)
