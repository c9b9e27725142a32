"""`core encode` and `core info` on a sparse encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core.cli import main

Make = Callable[[str], Path]
TEXTS = ["a retrieval system ranks documents", "the quick brown fox"]


@pytest.fixture
def path(sparse: Make) -> str:
    return str(sparse("inference-free"))


def test_values_are_printed_or_written(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with core.load_sparse(path, backend="onnx") as model:
        expected = model.encode(TEXTS, max_active_dims=4)
        queries = model.encode(TEXTS, task="query")
    words = ["encode", path, *TEXTS, "-b", "onnx", "--max-active-dims", "4"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    rows = [(line["indices"], line["values"]) for line in lines]
    assert core.SparseEmbeddings.from_rows(rows, expected.shape[1]) == expected
    place = tmp_path / "rows.npz"
    assert main([*words, "-o", str(place), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["dimension"]) == (2, expected.shape[1])
    assert core.SparseEmbeddings.load(place) == expected
    words = ["encode", path, *TEXTS, "-b", "onnx", "--task", "query", "-o", str(place)]
    assert main(words) == 0
    assert core.SparseEmbeddings.load(place) == queries


def test_what_is_for_other_kinds_is_refused(
    path: str, sparse: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, says in (
        (["-o", str(tmp_path / "x.npy")], "of a sparse encoder must end in .npz or .jsonl"),
        (["--normalize"], "--normalize is for an embedding model or a multi-vector model, and"),
        (["--truncate-dim", "3"], "--truncate-dim is for an embedding model, and"),
        (["--max-active-dims", "0"], "must be 1 or more"),
        (["--task", "other"], "invalid choice"),
    ):
        try:
            code = main(["encode", path, "a text", "-b", "onnx", *options])
        except SystemExit as ended:
            code = int(str(ended.code))
        assert code == 2, options
        assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_masked_language_model_is_what_it_is_asked_to_be(
    sparse: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(sparse("splade-bare-bert"))
    assert main(["encode", path, "a text", "-b", "torch", "--kind", "sparse"]) == 0
    assert "indices" in json.loads(capsys.readouterr().out)
    assert main(["encode", path, "a text", "-b", "torch"]) == 0
    assert "embedding" in json.loads(capsys.readouterr().out)


def test_info_names_the_kind(path: str, sparse: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", path]) == 0
    printed = capsys.readouterr().out
    assert "sparse encoder (core.load_sparse)" in printed
    assert "Router (SparseStaticEmbedding for query)" in printed
    assert "SpladePooling (max, log1p_relu)" in printed
    assert "overlap of dimensions mean 1.0000" in printed
    assert main(["info", str(sparse("csr")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["max_active_dims"], found["dimension"]) == ("sparse", 16, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["splade", "reranker-bert"])
def test_an_export_of_another_kind_is_measured(
    name: str, tiny_kind: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(tiny_kind(name)), "-b", "onnx", "-t", str(tmp_path / "made")]
    assert main([*words, "--measure", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["speed_ratio"] > 0
