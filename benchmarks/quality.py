"""What a model is worth: its figures on data with human judgments, where they are at hand.

SICK (pairs of sentences) and Cranfield (abstracts, questions and which answer them) are read from
`../shared/data` and never copied. Without them, gensim's Lee corpus stands in for both: 50 news
articles, each pair of them judged (M. Lee, B. Pincombe and M. Welsh, "An empirical evaluation of
models of text document similarity", 2005); its three files, 400 kB, are read out of the wheel.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.downloads import DownloadFailedError, download
from benchmarks.model_files import ROOT, WORK
from benchmarks.progress import say
from core.tuning.labels import Pairs, Retrieval, pairs_quality, read_labels, retrieval_quality

DATA = ROOT.parent / "shared" / "data"
_GENSIM = "gensim==4.4.0"
_LEE = ("lee.cor", "similarities0-1.txt")

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """Texts with a judgment.

    Attributes:
        data: Its name.
        measure: "Spearman" or "NDCG@10".
        texts: All of them, in the order that `score` expects their embeddings in.
        score: 100 times the figure of embeddings, float32 [texts, dimension].
    """

    data: str
    measure: str
    texts: list[str]
    score: Callable[[Rows], float]

    @property
    def name(self) -> str:
        return f"{self.measure} on {self.data}"


def tasks(pairs: int | None, queries: int | None) -> list[Task]:
    """What can be scored here: similarity first, then retrieval.

    Args:
        pairs: How many of SICK's pairs, from the first on; None for all.
        queries: How many of Cranfield's, from the first on, in what answers them and five times
            as many other abstracts; None for all in all.
    """
    found = []
    sick, cranfield = DATA / "sick" / "sick_test.tsv", DATA / "cranfield"
    if sick.exists():
        found.append(_sick(sick, pairs))
    if cranfield.exists():
        found.append(_cranfield(cranfield, queries))
    missing = {"Spearman", "NDCG@10"} - {task.measure for task in found}
    if missing:
        try:
            found += [task for task in _lee() if task.measure in missing]
        except DownloadFailedError as error:
            say("quality is not measured for want of data:", error)
    return found


def _sick(file: Path, count: int | None) -> Task:
    found = read_labels(file, None, None, None).pairs
    assert found is not None
    return similarity(
        "SICK", Pairs(found.first[:count], found.second[:count], found.scores[:count])
    )


def _cranfield(folder: Path, count: int | None) -> Task:
    found = read_labels(
        None, folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels.tsv"
    ).retrieval
    assert found is not None
    if count is not None:
        queries = dict(list(found.queries.items())[:count])
        answers = {document for query in queries for document in found.judgments[query]}
        others = [document for document in found.corpus if document not in answers][: 5 * count]
        kept = answers | set(others)
        corpus = {name: text for name, text in found.corpus.items() if name in kept}
        found = Retrieval(corpus, queries, found.judgments)
    return retrieval("Cranfield", found)


@cache
def _lee() -> tuple[Task, Task]:
    folder = WORK / "lee"
    if not all((folder / name).exists() for name in _LEE):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=WORK) as scratch:
            wheel = download(_GENSIM, Path(scratch))
            with zipfile.ZipFile(wheel) as content:
                for name in _LEE:
                    text = content.read(f"gensim/test/test_data/{name}")
                    (folder / f"{name}.part").write_bytes(text)
                    (folder / f"{name}.part").replace(folder / name)
    texts = (folder / _LEE[0]).read_text(encoding="latin-1").splitlines()
    return lee(texts, np.loadtxt(folder / _LEE[1]))


def similarity(data: str, pairs: Pairs) -> Task:
    """Spearman's correlation of the cosines of pairs with their judgments."""
    place = {text: number for number, text in enumerate(pairs.texts)}
    first, second = ([place[text] for text in side] for side in (pairs.first, pairs.second))

    def score(rows: Rows) -> float:
        return 100 * pairs_quality(rows[first], rows[second], pairs, "cosine")

    return Task(data, "Spearman", pairs.texts, score)


def retrieval(data: str, given: Retrieval) -> Task:
    """NDCG@10 of the documents that are closest to each query."""
    count = len(given.queries)

    def score(rows: Rows) -> float:
        return 100 * retrieval_quality(rows[:count], rows[count:], given, "cosine")

    return Task(data, "NDCG@10", [*given.queries.values(), *given.corpus.values()], score)


def lee(texts: list[str], judged: NDArray[np.float64]) -> tuple[Task, Task]:
    """Documents of which each pair has a judgment, in the upper triangle of a square.

    As retrieval, every document is a query in the others, and the judgments are their gains.
    """
    above = np.triu_indices(len(texts), 1)
    first, second = (tuple(texts[i] for i in side) for side in above)
    full = np.triu(judged, 1) + np.triu(judged, 1).T

    def score(rows: Rows) -> float:
        found = []
        for query, text in enumerate(texts):
            others = [i for i in range(len(texts)) if i != query]
            gains = {str(i): float(full[query, i]) for i in others}
            one = Retrieval({str(i): texts[i] for i in others}, {"query": text}, {"query": gains})
            found.append(retrieval_quality(rows[[query]], rows[others], one, "cosine"))
        return 100 * float(np.mean(found))

    return (
        similarity("Lee", Pairs(first, second, judged[above])),
        Task("Lee", "NDCG@10", texts, score),
    )
