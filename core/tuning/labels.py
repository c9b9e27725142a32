"""Labelled data, and how well embeddings do on it: text pairs with a score, and retrieval."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.arguments import check_path
from core.engine.ranks import spearman
from core.engine.similarity import similarity, similarity_pairwise
from core.errors import OptionError
from core.texts.inputs import lone_surrogate
from core.texts.text_files import decode_lines
from core.tuning.fidelity import Floats

#: Documents that count in NDCG@10.
DEPTH = 10

#: What the columns of a file of pairs may be called, lower case.
_FIRST = ("sentence1", "sentence_1", "sentence_a", "text1", "text_1", "text_a", "first", "a")
_SECOND = ("sentence2", "sentence_2", "sentence_b", "text2", "text_2", "text_b", "second", "b")
_SCORE = ("score", "relatedness_score", "similarity_score", "similarity", "label", "gold")


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts and how alike people found them.

    Attributes:
        first: One text of each pair.
        second: The other.
        scores: float64 [pairs], on any scale.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: NDArray[np.float64]

    @property
    def texts(self) -> list[str]:
        """Every text once, in order."""
        return list(dict.fromkeys((*self.first, *self.second)))


@dataclass(frozen=True)
class Retrieval:
    """Queries, documents and which belong together.

    Attributes:
        corpus: Identifier to text, title in front.
        queries: Identifier to text; only those with a judgment.
        judgments: Query to document to relevance, 1 or more.
    """

    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    judgments: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Labels:
    """The labelled data a choice is judged by; each part may be missing."""

    pairs: Pairs | None = None
    retrieval: Retrieval | None = None

    def __bool__(self) -> bool:
        return self.pairs is not None or self.retrieval is not None

    @property
    def texts(self) -> int:
        """How many texts must be embedded."""
        count = len(self.pairs.texts) if self.pairs else 0
        if self.retrieval:
            count += len(self.retrieval.corpus) + len(self.retrieval.queries)
        return count


def read_labels(pairs: Any, corpus: Any, queries: Any, qrels: Any) -> Labels:
    """Labelled data as `core.tune` was given it.

    Args:
        pairs: A `.tsv`, `.csv` or `.jsonl` file, or a sequence of (text, text, score). Columns are
            found by name (sentence1, sentence2, score) or, without a header, by their order.
        corpus: BEIR's `corpus.jsonl` (`_id`, `title`, `text`), or a mapping of id to text.
        queries: BEIR's `queries.jsonl` (`_id`, `text`), or a mapping of id to text.
        qrels: BEIR's `qrels.tsv` (query-id, corpus-id, score), or a mapping of query id to a
            mapping of document id to score.

    Raises:
        OptionError: A file cannot be read, or labels and texts do not belong together.
    """
    given = {"corpus": corpus, "queries": queries, "qrels": qrels}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        has = next(name for name, value in given.items() if value is not None)
        raise OptionError(
            f"{has} was given without {' and '.join(missing)}: retrieval is judged with all three, "
            "corpus, queries and qrels."
        )
    return Labels(
        pairs=None if pairs is None else _read_pairs(pairs),
        retrieval=None if missing else _read_retrieval(corpus, queries, qrels),
    )


def pairs_quality(first: Floats, second: Floats, pairs: Pairs, similarity_fn_name: str) -> float:
    """Spearman's correlation of the similarities of embedded pairs with their scores.

    Args:
        first: float32 [pairs, dimension], of `pairs.first`.
        second: float32 [pairs, dimension], of `pairs.second`.
        similarity_fn_name: How the model compares.
    """
    return spearman(similarity_pairwise(first, second, similarity_fn_name), pairs.scores)


def retrieval_quality(
    queries: Floats, documents: Floats, retrieval: Retrieval, similarity_fn_name: str
) -> float:
    """Mean NDCG@10 over the queries (Järvelin and Kekäläinen 2002), with linear gain.

    The gain of a document is its relevance, the discount the binary logarithm of its rank plus 1,
    as in trec_eval and scikit-learn.

    Args:
        queries: float32 [queries, dimension], in the order of `retrieval.queries`.
        documents: float32 [documents, dimension], in the order of `retrieval.corpus`.
        similarity_fn_name: How the model compares.
    """
    position = {name: number for number, name in enumerate(retrieval.corpus)}
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    found = []
    for row, name in enumerate(retrieval.queries):
        scores = similarity(queries[row : row + 1], documents, similarity_fn_name)[0]
        relevance = np.zeros(len(position))
        for document, value in retrieval.judgments[name].items():
            relevance[position[document]] = value
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        ideal = np.sort(relevance)[::-1][:DEPTH]
        gain = (relevance[best] * discounts[: len(best)]).sum()
        found.append(gain / (ideal * discounts[: len(ideal)]).sum())
    return float(np.mean(found))


def _read_pairs(pairs: Any) -> Pairs:
    where = "pairs"
    rows: Iterable[tuple[str, Any]]
    if isinstance(pairs, str | os.PathLike):
        path = check_path("pairs", pairs)
        where = str(path)
        rows = _pairs_of_file(path)
    else:
        rows = ((f"pair {number}", pair) for number, pair in enumerate(_listed("pairs", pairs)))
    first, second, scores = [], [], []
    for place, row in rows:
        if not isinstance(row, list | tuple) or len(row) != 3:
            raise OptionError(
                f"{where}, {place}: a pair is (text, text, score), not {_short(row)}."
            )
        one, two, score = row
        if not isinstance(one, str) or not isinstance(two, str):
            raise OptionError(f"{where}, {place}: the texts must be strings, not {_short(row)}.")
        if found := lone_surrogate(one) or lone_surrogate(two):
            raise OptionError(f"{where}, {place}: a text {found}.")
        first.append(one)
        second.append(two)
        scores.append(_number(score, f"{where}, {place}"))
    if len(scores) < 3:
        raise OptionError(f"{where} has {len(scores)} pairs: a rank correlation needs more than 2.")
    if len(set(scores)) == 1:
        raise OptionError(f"{where}: every score is {scores[0]:g}, so there is nothing to rank.")
    return Pairs(tuple(first), tuple(second), np.array(scores))


def _pairs_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _lines(path, (".tsv", ".csv", ".jsonl"))
    if path.suffix == ".jsonl":
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = _json_of(line, path, number)
                if isinstance(row, dict):
                    row = _chosen(list(row), list(row.values()), path)
                yield f"line {number}", row
        return
    ended = (f"{line}\n" for line in lines)  # a quoted text may have several lines
    reader = (
        csv.reader(ended, delimiter="\t", quoting=csv.QUOTE_NONE)
        if path.suffix == ".tsv"
        else csv.reader(ended)
    )
    header: list[str] | None = None
    try:
        for number, row in enumerate(reader, 1):
            if number == 1 and not any(map(_is_number, row)):
                header = row
                _chosen(header, row, path)  # or columns that nobody can tell apart
            elif row:
                place = f"line {reader.line_num}"
                yield place, row if header is None else _chosen(header, row, path)
    except csv.Error as error:
        raise OptionError(
            f"{path}, line {reader.line_num}: {error}. Is a quotation mark left open before it?"
        ) from error


def _chosen(header: list[str], row: list[Any], path: Path) -> list[Any]:
    """The two texts and the score of a row, by the names of its columns."""
    names = [str(name).strip().lower() for name in header]
    if len(row) != len(names):
        return row  # the caller says which line has too few columns
    found = []
    for wanted in (_FIRST, _SECOND, _SCORE):
        name = next((name for name in wanted if name in names), None)
        if name is None:
            raise OptionError(
                f"{path}: pairs need the columns sentence1, sentence2 and score; it has "
                f"{', '.join(map(repr, header))}."
            )
        found.append(row[names.index(name)])
    return found


def _read_retrieval(corpus: Any, queries: Any, qrels: Any) -> Retrieval:
    documents = _read_texts("corpus", corpus)
    asked = _read_texts("queries", queries)
    judgments = _read_judgments(qrels)
    if not documents:
        raise OptionError(f"corpus {_short(corpus)} holds no documents.")
    lost = [(q, d) for q, rows in judgments.items() for d in rows if d not in documents]
    judged = {q: rows for q, rows in judgments.items() if q in asked}
    if not judged:
        raise OptionError(
            f"No query of qrels is among the queries: qrels has {_some(judgments)}, queries "
            f"{_some(asked)}. Do the files belong together?"
        )
    if lost:
        query, document = lost[0]
        raise OptionError(
            f"qrels names {len(lost)} documents that the corpus does not have, the first "
            f"{document!r} for query {query!r}. Do the files belong together?"
        )
    return Retrieval(documents, {q: asked[q] for q in asked if q in judged}, judged)


def _read_texts(name: str, given: Any) -> dict[str, str]:
    if isinstance(given, Mapping):
        for key, text in given.items():
            if not isinstance(text, str):
                raise OptionError(f"{name}[{key!r}] is {_short(text)}, not a string.")
            if wrong := lone_surrogate(text):
                raise OptionError(f"{name}[{key!r}] {wrong}.")
        return {str(key): text for key, text in given.items()}
    path = check_path(name, given)
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(path, (".jsonl",)), 1):
        if not line.strip():
            continue
        row = _json_of(line, path, number)
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str) or "_id" not in row:
            raise OptionError(
                f"{path}, line {number}: a line of BEIR's {name} is an object with `_id` and "
                f"`text`, not {_short(row)}."
            )
        if wrong := lone_surrogate(text):
            raise OptionError(f"{path}, line {number}: the text {wrong}.")
        title = row.get("title") or ""
        # As BEIR's own models read a document.
        found[str(row["_id"])] = f"{title} {text}".strip() if title else text
    return found


def _read_judgments(given: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for place, query, document, score in _judgments(given):
        value = _number(score, place)
        if value > 0:  # 0 says that somebody looked and it does not belong
            found.setdefault(str(query), {})[str(document)] = value
    if not found:
        raise OptionError(f"qrels {_short(given)} holds no positive judgment.")
    return found


def _judgments(given: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    if isinstance(given, Mapping):
        for query, rows in given.items():
            if not isinstance(rows, Mapping):
                raise OptionError(
                    f"qrels[{query!r}] must map document ids to scores, not {_short(rows)}."
                )
            for document, score in rows.items():
                yield f"qrels[{query!r}][{document!r}]", query, document, score
        return
    path = check_path("qrels", given)
    for number, line in enumerate(_lines(path, (".tsv", ".txt")), 1):
        row = line.split("\t") if "\t" in line else line.split()
        if not row or (number == 1 and not _is_number(row[-1])):
            continue  # the header
        if len(row) == 4:  # TREC's: query, 0, document, score
            row = [row[0], *row[2:]]
        if len(row) != 3:
            raise OptionError(
                f"{path}, line {number}: a judgment is query-id, corpus-id and score, separated by "
                f"tabs, not {line!r}."
            )
        yield f"{path}, line {number}", *row  # type: ignore[misc]


def _lines(path: Path, suffixes: Sequence[str]) -> Iterator[str]:
    if path.suffix not in suffixes:
        raise OptionError(f"{str(path)!r} should be a file that ends in {' or '.join(suffixes)}.")
    try:
        with path.open("rb") as file:
            yield from decode_lines(file, str(path))
    except OSError as error:
        raise OptionError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def _json_of(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path}, line {number}: not JSON ({error}).") from error


def _listed(name: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError as error:  # an array of no dimension has an iterator, too
        raise OptionError(f"{name} must be a file or a sequence, not {_short(value)}.") from error


def _number(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise OptionError(f"{place}: the score is {_short(value)}, not a number.")
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _some(names: Iterable[str]) -> str:
    first = list(names)[:3]
    return ", ".join(map(repr, first)) + (", ..." if len(first) == 3 else "") if first else "none"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
