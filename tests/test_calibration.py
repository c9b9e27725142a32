"""Calibration texts from sequences, files and data sets."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.errors import OptionError
from core.texts.calibration import FEWEST_TEXTS, read_calibration
from core.texts.samples import varied_texts
from tests.conftest import Exports


def test_a_sequence_is_taken_without_its_blank_texts() -> None:
    texts = ["one", "", " \n", "three"]
    for given in (texts, tuple(texts), np.array(texts)):
        assert read_calibration(given, {}) == ["one", "three"]
    with pytest.raises(OptionError, match="No calibration texts"):
        read_calibration(["", " "], {})
    with pytest.raises(OptionError, match="calibration is 5"):
        read_calibration(5, {})


def test_a_text_file_has_one_text_a_line(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeffcafé\r\n\n  \nlast".encode())
    assert read_calibration(str(file), {}) == ["café", "last"]
    assert read_calibration(file, {}) == ["café", "last"]


def test_a_jsonl_file_takes_a_field_and_leaves_other_options(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "body": "A"}\n\n{"body": "B", "text": "b"}\n"plain"\n')
    given: dict[str, Any] = {"num_samples": 2, "alpha": 0.5}
    assert read_calibration(file, given) == ["a", "b", "plain"]
    given["field"] = "body"
    assert read_calibration(file, given) == ["A", "B", "plain"]
    assert given == {"num_samples": 2, "alpha": 0.5}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("bad.jsonl", b'{"body": "a"}\n', "line 1: no field 'text'; it has 'body'"),
        ("bad.jsonl", b'{"text": 3}\n', "line 1: the text is 3"),
        ("half.jsonl", b'{"text": "\\ud800"}\n', "line 1: the text has the lone surrogate"),
        ("bad.txt", b"good\n\xff\xfe\n", "line 2: not UTF-8"),
        ("empty.txt", b"\n\n", "No calibration texts"),
        ("table.csv", b"a,b\n", r"\.txt and \.jsonl"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(OptionError, match=expected) as caught:
        read_calibration(str(file), {})
    assert str(file) in str(caught.value)


def test_what_cannot_be_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"Cannot read .*missing\.txt"):
        read_calibration(tmp_path / "missing.txt", {})
    with pytest.raises(OptionError, match="No calibration texts"):
        read_calibration([], {})
    with pytest.raises(OptionError, match="Input 1 is int"):
        read_calibration(["a", 2], {})
    with pytest.raises(OptionError, match="calibration is a sequence of texts"):
        read_calibration(["a"], {"column_name": "text"})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a text", None], r"calibration: Input 1 is NoneType"),
        ([("a", "pair")], r"calibration: Input 0 is tuple"),
        ({"a", "set"}, r"calibration takes a sequence of texts, not set"),
    ],
)
def test_what_is_no_text_is_said_to_be_of_the_calibration(given: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        read_calibration(given, {})


def test_a_dataset_needs_all_its_arguments_or_none() -> None:
    with pytest.raises(OptionError, match="also needs dataset_split, column_name"):
        read_calibration("owner/data", {"dataset_config_name": "all"})
    with pytest.raises(OptionError, match="names a dataset"):
        read_calibration("texts-typo", {})


def test_a_dataset_without_the_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(OptionError, match="pip install datasets"):
        read_calibration("glue", {})


@pytest.mark.parametrize(
    ("backend", "config"),
    [("torch", "int8"), ("onnx", "auto"), ("onnx", "static"), ("openvino", "int8")],
)
def test_few_texts_are_said_once(
    exports: Exports, tmp_path: Path, caplog: pytest.LogCaptureFixture, backend: str, config: str
) -> None:
    folder = exports("bert-mean", "onnx", "openvino")
    texts = varied_texts(FEWEST_TEXTS)
    with core.load(folder, backend=backend, device="cpu") as model:
        for given, found in ((texts, None), (["a fox"] * 40, "1 different text only"),
                             (texts[1:], f"{FEWEST_TEXTS - 1} different texts only")):  # fmt: skip
            caplog.clear()
            model.quantize(config, tmp_path, calibration=given, min_cosine=-1)
            said = [r.getMessage() for r in caplog.records if "Calibration has" in r.getMessage()]
            assert len(said) == (found is not None)
            assert found is None or found in said[0]


class _Rows:
    """The part of `datasets.Dataset` that is used: the library needs the network to load."""

    column_names = ("sentence", "label")

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, column: str) -> list[str]:
        return self.texts

    def shuffle(self, seed: int) -> _Rows:
        order = np.random.default_rng(seed).permutation(len(self.texts))
        return _Rows([self.texts[i] for i in order])

    def select(self, rows: range) -> _Rows:
        return _Rows([self.texts[i] for i in rows])


def test_a_dataset_is_sampled_and_never_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def load_dataset(name: str, config: str, *, split: str) -> _Rows:
        asked.append((name, config, split))
        return _Rows([f"text {i}" for i in range(5_000)])

    library = types.ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    texts = read_calibration("glue", {})
    assert asked == [("glue", "sst2", "train")]
    assert len(set(texts)) == 1_000
    assert texts == read_calibration("glue", {})
    assert texts != sorted(texts, key=lambda text: int(text.split()[1]))
    # A configuration may bound it too; the argument goes before it.
    assert len(read_calibration("glue", {"config": {"num_samples": 20}})) == 20
    both = {"config": {"num_samples": 20}, "num_samples": 2_000}
    assert len(read_calibration("glue", both)) == 2_000
    given: dict[str, Any] = {
        "dataset_config_name": "c",
        "dataset_split": "test",
        "column_name": "sentence",
        "num_samples": 7,
    }
    assert len(read_calibration("owner/data", given)) == 7
    assert asked[-1] == ("owner/data", "c", "test")
    with pytest.raises(OptionError, match="no column 'text'; it has sentence, label"):
        read_calibration(
            "owner/data",
            {**dict.fromkeys(("dataset_config_name", "dataset_split"), "x"), "column_name": "text"},
        )
