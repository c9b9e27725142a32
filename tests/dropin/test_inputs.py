"""What `encode`, `tokenize` and the constructor's dictionaries take, as the reference takes it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import CoreError, OptionError
from core.sentence_transformers import SentenceTransformer
from tests.conftest import copy_model

LONG = "one two three four five six seven"


def test_a_text_may_come_as_a_dictionary(model: SentenceTransformer) -> None:
    expected = model.encode(["one text", "another"])
    mixed = model.encode([{"text": "one text"}, "another"])
    np.testing.assert_array_equal(mixed, expected)
    single = model.encode({"text": "one text"})
    assert single.shape == (32,)
    np.testing.assert_allclose(single, expected[0], atol=1e-5)
    tokens = model.tokenize([{"text": "one text"}])
    assert torch.equal(tokens["input_ids"], model.tokenize(["one text"])["input_ids"])
    with pytest.raises(ValueError, match="Input 1 is a dictionary with 'query'"):
        model.encode(["a", {"query": "b"}])


def test_rows_may_come_in_any_sequence(model: SentenceTransformer) -> None:
    expected = model.encode(["a", "b"])
    for rows in (("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], dtype=object), iter("ab")):
        np.testing.assert_array_equal(model.encode(rows), expected)
    kinds: list[Any] = ["a", ["a"], ("a",), {"text": "a"}, np.array(["a"]), []]
    answers = [model.is_singular_input(kind) for kind in kinds]
    assert answers == [True, False, False, True, False, False]


@pytest.mark.parametrize("call", ["encode", "tokenize"])
@pytest.mark.parametrize("pair", [("a", "b"), ["a", "b"]])
def test_pairs_are_refused_and_named(
    model: SentenceTransformer, call: str, pair: tuple[str, str] | list[str]
) -> None:
    with pytest.raises(OptionError, match=r"Input 1 is a \w+ of 2, not a text\..*two segments"):
        getattr(model, call)(["a", pair])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "encode needs texts"),
        (3, "not int"),
        (b"bytes", "not bytes"),
        ({"a", "b"}, "not set"),
        ([1], "Input 0 is int 1"),
        (["a", None], "Input 1 is NoneType"),
        ([{"text": 3}], "Input 0 is int 3"),
    ],
)
def test_what_is_no_text_is_an_error(model: SentenceTransformer, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(wrong)


def test_two_prompts_are_one_and_a_warning(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    expected = model.encode(["a"], prompt="x: ")
    found = model.encode(["a"], prompt="x: ", prompt_name="query")
    np.testing.assert_array_equal(found, expected)
    assert "both given" in caplog.text


def test_switches_may_be_anything_that_is_true(model: SentenceTransformer) -> None:
    found = model.encode(["a"], normalize_embeddings=1, show_progress_bar=0)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_more_than_the_model_has_keeps_all_of_it(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", truncate_dim=1_000)
    assert (model.truncate_dim, model.get_embedding_dimension()) == (1_000, 32)
    assert model.encode(["a"]).shape == (1, 32)
    model.truncate_dim = 8
    assert model.encode(["a"], truncate_dim=1_000).shape == (1, 32)
    assert model.encode(["a"], truncate_dim=None).shape == (1, 8)
    with model.truncate_embeddings(500):
        assert model.encode("a").shape == (32,)
    model.max_seq_length = 10_000
    assert model.max_seq_length == 10_000
    assert model.encode("a").shape == (8,)
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.truncate_dim, copy.max_seq_length) == (8, 10_000)
    other = SentenceTransformer(
        str(tiny), device="cpu", processor_kwargs={"model_max_length": 10_000}
    )
    assert other.max_seq_length == 10_000


def test_a_task_and_empty_processing_arguments_change_nothing(model: SentenceTransformer) -> None:
    expected = model.encode(["a"])
    np.testing.assert_array_equal(model.encode(["a"], task="retrieval"), expected)
    np.testing.assert_array_equal(model.encode_query(["a"], processing_kwargs=None), expected)


def test_a_model_s_arguments_of_transformers_are_understood(tiny: Path) -> None:
    model = SentenceTransformer(
        str(tiny),
        model_kwargs={
            "device_map": "cpu",
            "low_cpu_mem_usage": True,
            "use_safetensors": True,
            "add_pooling_layer": False,
            "torch_dtype": "auto",
            "token": False,
            "trust_remote_code": False,
            "local_files_only": True,
        },
    )
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    for backend in ("onnx", "openvino"):
        onnx = SentenceTransformer(
            str(tiny), backend=backend, model_kwargs={"device_map": "auto", "torch_dtype": "auto"}
        )
        assert onnx.encode("a").shape == (32,)


def test_a_device_map_wins_over_device_and_names_one(tiny: Path) -> None:
    for device_map in ("cpu", torch.device("cpu"), {"": "cpu"}):
        model = SentenceTransformer(
            str(tiny), device="cuda:7", model_kwargs={"device_map": device_map}
        )
        assert model.device == torch.device("cpu")
    with pytest.raises(CoreError, match="cuda:7"):
        SentenceTransformer(str(tiny), model_kwargs={"device_map": 7})
    with pytest.raises(ValueError, match=r"several devices.*device='cuda:0'"):
        SentenceTransformer(str(tiny), model_kwargs={"device_map": {"a": "cpu", "b": "cuda:0"}})


def test_a_tokenizer_s_arguments_are_understood_or_refused(tiny: Path, tmp_path: Path) -> None:
    taken = {"truncation_side": "right", "fix_mistral_regex": True, "padding_side": "left"}
    model = SentenceTransformer(str(tiny), backend="onnx", processor_kwargs=taken)
    plain = SentenceTransformer(str(tiny), backend="onnx")
    assert torch.equal(model.tokenize([LONG])["input_ids"], plain.tokenize([LONG])["input_ids"])
    with pytest.raises(ValueError, match=r"truncation_side='left': this model cuts .* right"):
        SentenceTransformer(str(tiny), backend="onnx", tokenizer_kwargs={"truncation_side": "left"})
    with pytest.raises(ValueError, match="not 'nonsense'"):
        SentenceTransformer(str(tiny), backend="onnx", tokenizer_kwargs={"nonsense": 1})
    left = copy_model(tiny, tmp_path / "left")
    settings = left / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("{", '{"truncation_side": "left", ', 1))
    model = SentenceTransformer(
        str(left), backend="onnx", tokenizer_kwargs={**taken, "truncation_side": "left"}
    )
    assert model.encode("a").shape == (32,)


def test_a_length_may_come_from_numpy(tiny_model: Callable[[str], Path]) -> None:
    model = SentenceTransformer(str(tiny_model("bert-mean")), device="cpu")
    model.max_seq_length = np.int64(4)  # type: ignore[assignment]
    assert model.tokenize([LONG])["input_ids"].shape == (1, 4)


@pytest.mark.parametrize("output_value", [None, "token_embeddings"])
def test_no_precision_is_passed_over(model: SentenceTransformer, output_value: Any) -> None:
    with pytest.raises(ValueError, match=r"precision='binary' quantizes sentence embeddings"):
        model.encode(["a text"], output_value=output_value, precision="binary")
    assert len(model.encode(["a text"], output_value=output_value, precision=None)) == 1
