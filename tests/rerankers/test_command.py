"""`core rerank`, and the other commands on a reranker."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core.cli import main
from tests.rerankers.conftest import PAIRS

Make = Callable[[str], Path]
QUERY, DOCUMENTS = "what is a cat", ["a cat is a small animal", "dogs bark loudly", "-5 degrees"]


@pytest.fixture
def path(reranker: Make) -> str:
    return str(reranker("reranker-bert"))


def ranked(path: str) -> list[dict[str, object]]:
    with core.load_reranker(path, backend="onnx") as model:
        return model.rank(QUERY, DOCUMENTS, return_documents=True)


def test_documents_are_printed_best_first(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rerank", path, QUERY, *DOCUMENTS[:2], "-b", "onnx", "--", DOCUMENTS[2]]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = ranked(path)
    assert [line.split()[1] for line in lines] == [str(entry["corpus_id"]) for entry in expected]
    assert lines[0].endswith(str(expected[0]["text"]))


def test_documents_come_from_files_and_standard_input(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, lines = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    plain.write_text("\n".join(DOCUMENTS))
    lines.write_text("\n".join(json.dumps({"body": text}) for text in DOCUMENTS))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(plain.read_bytes())))
    expected = ranked(path)
    for given in (
        ["--input", str(plain)],
        ["--input", str(lines), "--field", "body"],
        ["--input", "-"],
    ):
        assert main(["rerank", path, QUERY, "-b", "onnx", "--json", "--top-k", "2", *given]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["backend"] == "onnx"
        assert found["results"] == expected[:2]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "give documents as arguments or --input"),
        (["a", "--top-k", "0"], 2, "must be 1 or more"),
        (["a", "--prompt", "b", "--prompt-name", "c"], 2, "not both"),
        (["--input", "missing.txt"], 1, "Cannot read 'missing.txt'"),
        (["--input", "missing.csv"], 2, "must end in .txt or .jsonl"),
        (["a", "--max-length", "4000"], 2, "--max-length 4000: the model has positions for"),
        (["a", "--max-lenght", "4"], 2, "did you mean --max-length"),
    ],
)
def test_wrong_usage_is_told(
    path: str, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_model = ["rerank", path, QUERY, "-b", "onnx", *words]
    assert main(with_model) == code
    assert says in capsys.readouterr().err


def test_info_names_the_kind(path: str, reranker: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", path]) == 0
    shown = capsys.readouterr().out
    assert "reranker (core.load_reranker)" in shown
    assert "classification head (1 label)" in shown
    assert "rank correlation" in shown
    assert main(["info", str(reranker("reranker-qwen3")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["dimension"]) == ("reranker", None)
    assert found["labels"] == ["LABEL_0"]
    assert any(module.startswith("LogitScore (token ") for module in found["modules"])


def test_each_command_says_which_takes_the_model(
    path: str, tiny_model: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", path, "a text", "-b", "onnx"]) == 1
    assert "is a reranker" in capsys.readouterr().err
    assert main(["rerank", str(tiny_model("bert-cls")), "q", "a text", "-b", "torch"]) == 1
    assert "is an embedding model" in capsys.readouterr().err


def test_artifacts_are_made_from_the_command_line(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "made")
    options = ("-b", "torch", "--num-samples", "8", "--target", target, "--json")
    assert main(["quantize", path, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verification"]["rank_correlation"] > 0.9
    with core.load_reranker(target, backend="torch", file_name=Path(report["file"]).name) as made:
        assert np.isfinite(made.predict(PAIRS)).all()
