"""Pooling as an ONNX graph: what runs on a GPU, here on the CPU; tests/test_chain.py has more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import core
from core.architecture.batch import TokenBatch
from core.architecture.modules import Pooling, run_modules
from core.engine.batching import pad
from core.toolkit import HeldFiles
from onnx_backend.modules import pooling_graph
from onnx_backend.session import OnnxRuntime, Sessions

RANDOM = np.random.default_rng(7)


def random(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def batch(side: str) -> TokenBatch:
    lengths = np.array([5, 1, 9, 3])
    return pad(np.arange(1, 19, dtype=np.int32), lengths, 0, side)


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
            Sessions(HeldFiles([plain.path], "it"), "the same file", plain.provider, None),
            pool_on_device=True,
        )  # fmt: skip
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)
