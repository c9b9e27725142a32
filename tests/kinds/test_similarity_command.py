"""`core similarity` on a model of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.cli import main
from tests.conftest import build_tiny_kind, build_tiny_model

TEXTS = ["a cat is a small animal", "dogs bark loudly", "-5 degrees"]


def by_embeddings(path: str) -> Any:
    with core.load(path, backend="torch") as model:
        return model.similarity(model.encode(TEXTS), model.encode(TEXTS))


def by_words(path: str) -> Any:
    with core.load_sparse(path, backend="torch") as model:
        return model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))


def by_tokens(path: str) -> Any:
    with core.load_multi_vector(path, backend="torch") as model:
        return model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))


def by_pairs(path: str) -> Any:
    with core.load_reranker(path, backend="torch") as model:
        return [[model.predict((query, text)) for text in TEXTS] for query in TEXTS]


@pytest.mark.parametrize(
    ("name", "kind", "measure", "expected"),
    [
        ("bert-mean", "embedding", "cosine", by_embeddings),
        ("inference-free", "sparse", "dot", by_words),
        ("colbert", "multi_vector", "maxsim", by_tokens),
        ("reranker-bert", "reranker", "score", by_pairs),
    ],
)
def test_texts_are_compared_by_the_measure_of_the_kind(
    name: str,
    kind: str,
    measure: str,
    expected: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build = build_tiny_model if kind == "embedding" else build_tiny_kind
    path = str(build(name))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = ["similarity", path, "--backend", "torch", "--input", str(tmp_path / "texts.txt")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["similarity"], found["backend"]) == (kind, measure, "torch")
    np.testing.assert_allclose(found["scores"], expected(path), rtol=1e-4, atol=1e-5)


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(build_tiny_model("bert-mean"))
    words = ["similarity", path, *TEXTS[:2], "-b", "torch", "--", TEXTS[2]]
    assert main(words) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["1", "2", "3", "(cosine)"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert all(row.endswith(text) for row, text in zip(rows, TEXTS, strict=True))
    assert float(rows[1].split()[2]) == 1


def test_a_model_that_serves_as_several_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(build_tiny_kind("splade-bare-bert"))
    words = ["similarity", path, *TEXTS[:2], "-b", "torch", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["similarity"] == "cosine"
    assert main([*words, "--kind", "sparse"]) == 0
    assert json.loads(capsys.readouterr().out)["similarity"] == "dot"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give texts as arguments or --input FILE"),
        (["a", "--input", "b.txt"], "give texts as arguments or --input FILE"),
        (["a", "b", "--batch-size", "0"], "--batch-size must be 1 or more"),
        (["a", "b"], "gives 3 scores for a pair (contradiction, entailment, neutral)"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(build_tiny_kind("reranker-labels"))
    assert main(["similarity", path, "-b", "torch", *words]) == 2
    assert says in capsys.readouterr().err
