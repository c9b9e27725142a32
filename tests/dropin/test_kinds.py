"""What the drop-in's other classes share with `SentenceTransformer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import core
from core.sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder

CLASSES = {"reranker-bert": CrossEncoder, "splade": SparseEncoder, "colbert": MultiVectorEncoder}


@pytest.fixture(params=CLASSES)
def make(request: pytest.FixtureRequest, tiny_kind: Callable[[str], Path]) -> Callable[..., Any]:
    """The class, which loads a small model of its kind with the arguments it is given."""
    path = str(tiny_kind(request.param))
    return lambda **arguments: CLASSES[request.param](path, backend="torch", **arguments)


def test_a_tokenizer_that_would_give_other_tokens_is_refused(make: Callable[..., Any]) -> None:
    assert make(processor_kwargs={"truncation_side": "right", "model_max_length": 9}) is not None
    with pytest.raises(ValueError, match=r"truncation_side='left': this model cuts .* right"):
        make(processor_kwargs={"truncation_side": "left"})


def test_a_model_moves_as_the_reference_does(make: Callable[..., Any]) -> None:
    model = make(processor_kwargs={"model_max_length": 9})
    assert str(model.half().dtype) == "torch.float16"
    assert str(model.to("cpu", "float32").device) == "cpu"
    assert model.max_seq_length == 9
    assert model.eval() is model


def test_devices_are_a_list(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="target_devices must be a list of devices"):
        make().start_multi_process_pool("cpu")


def test_modules_and_unknown_prompts_say_so(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="A model is loaded from files"):
        make(modules=[])
    with pytest.raises(ValueError, match="'none'"):
        make(default_prompt_name="none")


def test_what_the_reference_s_models_have_in_common_is_there(make: Callable[..., Any]) -> None:
    model = make()
    assert model.modalities == ["text"]
    assert (model.supports("text"), model.supports("image")) == (True, False)
    assert model.get_model_kwargs() == (["task"] if isinstance(model, MultiVectorEncoder) else [])
    assert len(model) >= 1
    assert model.evaluate(lambda given, path: (given is model, path), "out") == (True, "out")
    model.max_seq_length = 9999  # more than there are positions, as in the reference
    assert model.get_max_seq_length() == 9999
    model.prompts = {"mine": "x "}
    model.default_prompt_name = "mine"
    assert model.default_prompt_name == "mine"


def test_modules_are_told_apart_from_what_does_not_exist(make: Callable[..., Any]) -> None:
    model = make()
    for touch in (lambda: model[0], lambda: list(model), lambda: model({})):
        with pytest.raises(core.UnsupportedOperation, match="torch module"):
            touch()
    assert not hasattr(model, "anything_else")


def test_tokens_are_the_reference_s(make: Callable[..., Any]) -> None:
    model = make()
    pairs = isinstance(model, CrossEncoder)
    inputs = [("a cat", "a dog sleeps"), ("a", "b")] if pairs else ["a cat", "a dog sleeps"]
    batch, encoded = model.tokenize(inputs), model.tokenizer(inputs, padding=True)
    assert batch["input_ids"].tolist() == encoded["input_ids"]
    assert batch["attention_mask"].tolist() == encoded["attention_mask"]
    assert model.preprocess([]) == {}
    assert [model.is_singular_input(given) for given in (inputs[0], inputs)] == [True, False]
    with pytest.raises(ValueError, match="takes no" if pairs else "prompt must be"):
        model.preprocess(inputs, prompt="x " if pairs else 5)


def test_two_prompts_of_a_reranker_are_one_and_a_warning(
    tiny_kind: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = CrossEncoder(str(tiny_kind("reranker-bert")), prompts={"q": "q: "})
    expected = model.predict([("a", "b")], prompt="x ")
    assert model.predict([("a", "b")], prompt="x ", prompt_name="q").tolist() == expected.tolist()
    assert "prompt='x ' is used" in caplog.text
