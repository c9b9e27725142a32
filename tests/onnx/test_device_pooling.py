"""Pooling as an ONNX graph: what runs on a GPU, here on the CPU, against core's own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import core
from core.batching import pad
from core.modules import (
    ACTIVATIONS,
    POOLING_MODES,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    run_modules,
)
from core.runtime import TokenBatch
from onnx_backend.pooling import pooling_graph
from onnx_backend.session import OnnxRuntime, Sessions

RANDOM = np.random.default_rng(7)


def random(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def batch(side: str, prompt_tokens: int = 0) -> TokenBatch:
    lengths = np.array([5, 1, 9, 3])
    made = pad(np.arange(1, 19, dtype=np.int32), lengths, 0, side)
    return TokenBatch(made.input_ids, made.attention_mask, made.token_type_ids, prompt_tokens)


def run(modules: tuple[Any, ...], given: TokenBatch, hidden: Any) -> Any:
    session = onnxruntime.InferenceSession(
        pooling_graph(modules, str(hidden.dtype)), providers=["CPUExecutionProvider"]
    )
    feed = {
        "hidden": hidden,
        "mask": given.attention_mask.astype(np.float32),
        "pooling_mask": given.pooling_mask.astype(np.float32),
    }
    return session.run(None, feed)[0]


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_mode_equals_the_modules(mode: str, side: str, include_prompt: bool) -> None:
    modules = (Pooling((mode,), include_prompt=include_prompt), Normalize())
    given, hidden = batch(side, prompt_tokens=1), random(4, 9, 6)
    given = TokenBatch(
        given.input_ids[[0, 2, 3]],
        given.attention_mask[[0, 2, 3]],
        given.token_type_ids[[0, 2, 3]],
        1,
    )
    expected = run_modules(np, modules, hidden[:3], given)
    np.testing.assert_allclose(run(modules, given, hidden[:3]), expected, atol=1e-6)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_equals_the_modules(activation: str) -> None:
    modules = (
        Pooling(("mean", "max")),
        Dense(random(5, 12), random(5), activation, use_residual=True, residual=random(5, 12)),
        LayerNorm(random(5), random(5)),
    )
    given, hidden = batch("right"), random(4, 9, 6)
    expected = run_modules(np, modules, hidden, given)
    np.testing.assert_allclose(run(modules, given, hidden), expected, atol=2e-5)


def test_half_precision_is_pooled_in_full() -> None:
    modules, given = (Pooling(("mean",)),), batch("left")
    hidden = random(4, 9, 6).astype(np.float16)
    expected = run_modules(np, modules, hidden.astype(np.float32), given)
    result = run(modules, given, hidden)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_modules_without_a_graph_are_named() -> None:
    class Unusual:
        def convert(self, to_array: Any) -> Any:
            return self

        def __call__(self, xp: Any, features: Any) -> None: ...

    with pytest.raises(core.UnsupportedOperation, match=r"Unusual.*device='cpu'"):
        pooling_graph((Unusual(),))


def test_a_runtime_that_pools_on_its_device_gives_the_same_embeddings(tiny: Path) -> None:
    texts = ["one", "two words", "a third text that is a good deal longer than the others"]
    with core.load(tiny, backend="onnx") as model:
        expected = model.encode(texts)
        plain = model.runtime
        model.runtime = OnnxRuntime(
            plain.architecture, plain.file, plain.path, plain.files, plain.provider,
            Sessions(plain.path, "the same file", plain.provider, None), pool_on_device=True,
        )  # fmt: skip
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)
