"""What the drop-in's other classes share with `SentenceTransformer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
