"""Labelled data in every form it comes in, and what is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core import OptionError
from core.tuning.labels import read_labels

TRIPLES = [("a cat", "a dog", 3.5), ("a car", "a van", 4.0), ("one", "two", 1.0)]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.tsv", "a cat\ta dog\t3.5\na car\ta van\t4\none\ttwo\t1\n"),
        (
            "named.tsv",
            "score\tsentence1\tsentence2\n3.5\ta cat\ta dog\n4\ta car\ta van\n1\tone\ttwo\n",
        ),
        (
            "sick.tsv",
            "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
            "1\ta cat\ta dog\t3.5\tNEUTRAL\n2\ta car\ta van\t4\tX\n3\tone\ttwo\t1\tX\n",
        ),
        (
            "quoted.csv",
            '"sentence1","sentence2","score"\n"a cat","a dog",3.5\na car,a van,4\none,two,1\n',
        ),
        (
            "lines.jsonl",
            "\n".join(
                json.dumps({"text1": one, "text2": two, "label": score})
                for one, two, score in TRIPLES
            ),
        ),
        ("lists.jsonl", "\n".join(json.dumps(triple) for triple in TRIPLES)),
    ],
)
def test_pairs_from_files(tmp_path: Path, name: str, text: str) -> None:
    pairs = read_labels(written(tmp_path / name, text), None, None, None).pairs
    assert pairs is not None
    assert list(zip(pairs.first, pairs.second, pairs.scores.tolist(), strict=True)) == TRIPLES


def test_a_quoted_text_keeps_its_lines(tmp_path: Path) -> None:
    text = '"a\ncat",a dog,3\r\na car,"a ""van""\r\n",4\none,two,1\nfive,six\n'
    with pytest.raises(OptionError, match="line 6: a pair is"):
        read_labels(written(tmp_path / "short.csv", text), None, None, None)
    pairs = read_labels(
        written(tmp_path / "lines.csv", text.removesuffix("five,six\n")), None, None, None
    ).pairs
    assert pairs is not None
    assert pairs.first == ("a\ncat", "a car", "one")
    assert pairs.second == ("a dog", 'a "van"\n', "two")


def test_pairs_from_a_sequence() -> None:
    pairs = read_labels(TRIPLES, None, None, None).pairs
    assert pairs is not None
    assert pairs.texts == ["a cat", "a car", "one", "a dog", "a van", "two"]


def beir(folder: Path) -> dict[str, Any]:
    return {
        "corpus": written(
            folder / "corpus.jsonl",
            '{"_id": "d1", "title": "Cats", "text": "purr"}\n{"_id": "d2", "text": "Dogs bark"}\n',
        ),
        "queries": written(
            folder / "queries.jsonl",
            '{"_id": "q1", "text": "what purrs"}\n{"_id": "q2", "text": "nobody judged this"}\n',
        ),
        "qrels": written(
            folder / "qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"
        ),
    }


def test_beirs_files(tmp_path: Path) -> None:
    retrieval = read_labels(None, **beir(tmp_path)).retrieval
    assert retrieval is not None
    assert retrieval.corpus == {"d1": "Cats purr", "d2": "Dogs bark"}
    assert retrieval.queries == {"q1": "what purrs"}
    assert retrieval.judgments == {"q1": {"d1": 2.0}}


def test_trecs_qrels_and_mappings(tmp_path: Path) -> None:
    qrels = written(tmp_path / "qrels.txt", "q1 0 d1 1\n")
    retrieval = read_labels(None, {"d1": "x"}, {"q1": "y"}, qrels).retrieval
    assert retrieval is not None
    assert retrieval.judgments == {"q1": {"d1": 1.0}}
    same = read_labels(None, {"d1": "x"}, {"q1": "y"}, {"q1": {"d1": 1}})
    assert same.retrieval == retrieval


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "b", 1)], "1 pairs"),
        ([("a", "b", 1), ("c", "d", 1), ("e", "f", 1)], "every score is 1"),
        ([("a", "b"), ("c", "d", 1)], "pair 0: a pair is (text, text, score), not ('a', 'b')"),
        ([("a", "half \ud800", 1)], "pair 0: a text has the lone surrogate '\\ud800'"),
        ([("a", 5, 1)], "pair 0: the texts must be strings"),
        ([("a", "b", "high")], "pair 0: the score is 'high', not a number"),
        ([("a", "b", float("nan"))], "not a number"),
        (5, "pairs must be a file or a sequence, not 5"),
        ("gone.tsv", "Cannot read 'gone.tsv': No such file"),
        ("pairs.xlsx", "should be a file that ends in .tsv or .csv or .jsonl"),
    ],
)
def test_pairs_that_cannot_be_used(pairs: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        read_labels(pairs, None, None, None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "one\ttwo\n", "pairs need the columns sentence1, sentence2 and score"),
        ("x.tsv", "a\tb\t1\nc\td\n", "line 2: a pair is"),
        ("x.jsonl", "{", "line 1: not JSON"),
        ("x.jsonl", '{"a": 1}', "pairs need the columns"),
        ("x.csv", "", "0 pairs"),
        ("x.csv", 'a,b,1\n"c' + "long " * 30_000 + "\n,d,2\n", "line 2: field larger than"),
    ],
)
def test_files_of_pairs_that_cannot_be_used(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        read_labels(written(tmp_path / name, text), None, None, None)


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    files = beir(tmp_path)
    with pytest.raises(OptionError, match="corpus was given without queries and qrels"):
        read_labels(None, files["corpus"], None, None)
    with pytest.raises(OptionError, match="No query of qrels is among the queries"):
        read_labels(None, files["corpus"], {"other": "x"}, files["qrels"])
    with pytest.raises(OptionError, match="names 1 documents that the corpus does not have"):
        read_labels(None, {"d9": "x"}, files["queries"], files["qrels"])
    with pytest.raises(OptionError, match="holds no documents"):
        read_labels(None, {}, files["queries"], files["qrels"])
    with pytest.raises(OptionError, match="line 1: a judgment is query-id, corpus-id and score"):
        read_labels(None, {"d1": "x"}, {"q1": "y"}, written(tmp_path / "bad.tsv", "q1\t5\n"))
    with pytest.raises(OptionError, match="no positive judgment"):
        read_labels(None, {"d1": "x"}, {"q1": "y"}, {"q1": {"d1": 0}})
    with pytest.raises(OptionError, match="an object with `_id` and `text`"):
        read_labels(None, written(tmp_path / "c.jsonl", '{"id": 1}'), {"q1": "y"}, {"q1": {"d": 1}})
