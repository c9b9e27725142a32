"""Kinds of model that core does not run: one error everywhere, and none that leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core import UnsupportedOperation
from core.cli import main
from core.sentence_transformers import CrossEncoder, SentenceTransformer
from tests.conftest import copy_model

SPARSE = ("splade", "splade-old", "csr", "inference-free")

CALLS: dict[str, Callable[[Path], object]] = {
    "load": lambda path: core.load(path, backend="torch"),
    "load_reranker": lambda path: core.load_reranker(path, backend="torch"),
    "export": lambda path: core.export(path, backend="onnx"),
    "tune": lambda path: core.tune(path, [f"text {i}" for i in range(30)], write=False),
    "SentenceTransformer": lambda path: SentenceTransformer(str(path)),
    "CrossEncoder": lambda path: CrossEncoder(str(path)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", SPARSE)
def test_other_kinds_are_refused_as_what_they_are(
    tiny_kind: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: str,
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    path = copy_model(tiny_kind(name), tmp_path / "model")
    with pytest.raises(UnsupportedOperation) as caught:
        CALLS[call](path)
    message = str(caught.value)
    assert "is a sparse encoder, which core does not run" in message
    assert "sentence-transformers" in message
    for function in re.findall(r"core\.(\w+)", message):
        assert hasattr(core, function), f"advises core.{function}, which does not exist"


def test_the_commands_say_so_too(
    tiny_kind: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["info"],
        ["encode", "a text", "--backend", "torch"],
        ["export", "--backend", "onnx"],
    ):
        assert main([command[0], str(tiny_kind("splade")), *command[1:]]) == 1
        said = capsys.readouterr().err
        assert "is a sparse encoder, which core does not run" in said
        assert "Traceback" not in said
