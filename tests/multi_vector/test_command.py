"""`core encode` and `core info` on a multi-vector model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core.cli import main

Make = Callable[[str], Path]
TEXTS = ["a cat", "the lazy dog sleeps", "", "a cat"]


@pytest.fixture
def path(exported: Make) -> str:
    return str(exported("colbert"))


def test_vectors_are_printed(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", path, *TEXTS, "-b", "onnx", "--task", "query"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in records] == TEXTS
    with core.load_multi_vector(path, backend="onnx") as model:
        expected = model.encode_query(TEXTS)
    for record, vectors in zip(records, expected, strict=True):
        np.testing.assert_allclose(record["embedding"], vectors, atol=1e-6)


def test_vectors_are_written_one_after_another(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "texts.txt", tmp_path / "vectors.npz"
    source.write_text("\n".join(filter(None, TEXTS)))
    words = ["encode", path, "-i", str(source), "-o", str(output), "-b", "onnx"]
    assert main([*words, "--task", "document", "--pool-factor", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["dimension"]) == (3, 16)
    with core.load_multi_vector(path, backend="onnx") as model:
        expected = model.encode_document(list(filter(None, TEXTS)), token_pooling=2)
    with np.load(output) as arrays:
        assert arrays["lengths"].tolist() == [len(one) for one in expected]
        np.testing.assert_allclose(arrays["vectors"], np.concatenate(expected), atol=1e-6)
    lines = tmp_path / "vectors.jsonl"
    assert main([*words[:-3], str(lines), "-b", "onnx"]) == 0
    assert len(lines.read_text().splitlines()) == 3
    source.write_text("")
    assert main(words) == 0
    with np.load(output) as arrays:
        assert (arrays["vectors"].shape, arrays["lengths"].shape) == ((0, 0), (0,))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--max-active-dims", "5"], 2, "--max-active-dims is for a sparse encoder, and"),
        (["-o", "x.npy"], 2, "of a multi-vector model must end in .npz or .jsonl"),
        (["--precision", "int8"], 2, "--precision is for an embedding model, and"),
        (["--truncate-dim", "8"], 2, "--truncate-dim is for an embedding model, and"),
        (["--pool-factor", "0.5"], 2, "must be a number of 1 or more, not 0.5"),
        (["--task", "search"], 2, "invalid choice: 'search'"),
    ],
)
def test_wrong_usage_is_told(
    path: str, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", path, "a", "-b", "onnx", *words]) == code
    assert says in capsys.readouterr().err


def test_embedding_models_have_no_task(
    tiny_model: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_model("bert-mean"))
    for words, says in (
        (["--task", "query"], "--task is not for this kind of model."),
        (["-o", "x.npz"], "of an embedding model must end in .npy or .jsonl"),
    ):
        assert main(["encode", model, "a", "-b", "torch", *words]) == 2
        assert says in capsys.readouterr().err


def test_info_names_the_kind(
    path: str, tiny_kind: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", path]) == 0
    shown = capsys.readouterr().out
    assert "multi-vector model (core.load_multi_vector)" in shown
    assert "queries filled up to 32 tokens" in shown
    assert "longest document 200 tokens" in shown
    assert "cosine mean 1.0" in shown
    assert main(["info", str(tiny_kind("pylate-1")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["dimension"], found["similarity"]) == (
        "multi_vector",
        16,
        "maxsim",
    )
    assert (found["query_length"], found["document_length"]) == (20, 64)


def test_files_are_made_from_the_command_line(
    writable: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = writable("colbert")
    assert main(["quantize", str(path), "-b", "onnx", "--config", "avx2"]) == 0
    assert "MaxSim difference" in capsys.readouterr().out
    assert (path / "onnx/model_quint8_avx2.onnx").is_file()
    assert main(["rerank", str(path), "a", "b", "-b", "onnx"]) == 1
    assert "a multi-vector model, not a reranker: use `core encode`" in capsys.readouterr().err
