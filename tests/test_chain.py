"""The modules after the transformer: numpy, torch and the graphs of ONNX and OpenVINO agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import core
from core.architecture.activations import ACTIVATIONS
from core.architecture.batch import TokenBatch
from core.architecture.modules import (
    POOLING_MODES,
    Dense,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
    run_modules,
)
from onnx_backend.modules import pooling_graph
from openvino_backend.imports import openvino
from openvino_backend.modules import append_modules

HIDDEN, WIDTH = 6, 9
LENGTHS = (5, 1, 9, 3, 0)  # the last row holds no token at all
OPENVINO = openvino.Core()


def random(*shape: int) -> Any:
    generator = np.random.default_rng(list(shape))
    return generator.normal(size=shape).astype(np.float32)


def batch(side: str, prompt_tokens: int = 0) -> TokenBatch:
    real = np.arange(WIDTH) < np.array(LENGTHS)[:, None]
    mask = (real if side == "right" else real[:, ::-1]).astype(np.int64)
    return TokenBatch(mask, mask, mask, prompt_tokens)


def in_torch(modules: tuple[Module, ...], hidden: Any, given: TokenBatch) -> Any:
    converted = [module.convert(torch.from_numpy) for module in modules]
    tokens = torch.from_numpy(hidden)
    return run_modules(torch, converted, tokens, given, torch.from_numpy).numpy()


def in_onnx(modules: tuple[Module, ...], hidden: Any, given: TokenBatch) -> Any:
    graph = pooling_graph(modules)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    masks = {"mask": given.attention_mask, "pooling_mask": given.pooling_mask}
    feed = {name: mask.astype(np.float32) for name, mask in masks.items()}
    return session.run(None, {"hidden": hidden, **feed})[0]


def token_graph(*, mask: str = "attention_mask") -> Any:
    """A graph of token embeddings that gives what it gets."""
    ops = openvino.opset13
    tokens = ops.parameter([-1, -1, HIDDEN], np.float32, name="hidden")
    masks = ops.parameter([-1, -1], np.int64, name="mask")
    graph = openvino.Model([ops.result(tokens)], [tokens, masks], "tokens")
    graph.inputs[1].get_tensor().set_names({mask})
    return graph


def in_openvino(modules: tuple[Module, ...], hidden: Any, given: TokenBatch) -> Any:
    graph = append_modules(token_graph(), modules)
    assert graph is not None
    assert graph.outputs[0].get_names() == {"sentence_embedding"}
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return OPENVINO.compile_model(graph, "CPU", settings)([hidden, given.attention_mask])[0]


def check(
    modules: tuple[Module, ...], hidden: Any, given: TokenBatch, *, prompt: bool = False
) -> None:
    expected = run_modules(np, modules, hidden, given)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()
    others = {"torch": in_torch, "onnx": in_onnx}
    if not prompt:
        others["openvino"] = in_openvino
    for name, run in others.items():
        result = run(modules, hidden, given)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=2e-6, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_every_mode_and_activation(mode: str, side: str, activation: str) -> None:
    weight, bias = random(5, HIDDEN), random(5)
    modules = (
        Pooling((mode,)),
        Dense(weight, bias, activation, use_residual=True, residual=random(5, HIDDEN)),
        LayerNorm(random(5), bias),
        Normalize(),
    )
    check(modules, 3 * random(len(LENGTHS), WIDTH, HIDDEN), batch(side))


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_mode_at_once_and_left_as_it_is(side: str) -> None:
    check((Pooling(POOLING_MODES),), random(len(LENGTHS), WIDTH, HIDDEN), batch(side))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_every_mode_without_the_prompt(mode: str, side: str) -> None:
    # The row of one token consists of the prompt alone.
    modules = (Pooling((mode,), include_prompt=False), Normalize())
    hidden, given = random(len(LENGTHS), WIDTH, HIDDEN), batch(side, prompt_tokens=1)
    check(modules, hidden, given, prompt=True)
    assert append_modules(token_graph(), modules) is None


def test_a_row_without_a_token_gives_zeros() -> None:
    modes = tuple(mode for mode in POOLING_MODES if mode != "cls")
    hidden, given = random(len(LENGTHS), WIDTH, HIDDEN), batch("right")
    for run in (in_torch, in_onnx, in_openvino):
        assert not run((Pooling(modes), Normalize()), hidden, given)[-1].any()


def test_padding_without_a_number_stays_out_of_the_maximum() -> None:
    hidden, given = random(len(LENGTHS), WIDTH, HIDDEN), batch("right")
    hidden[given.attention_mask == 0] = np.inf
    mask = given.attention_mask[:-1]
    check((Pooling(("cls", "max")),), hidden[:-1], TokenBatch(mask, mask, mask))


def test_a_dense_of_the_tokens_and_one_that_adds_its_input() -> None:
    square = random(HIDDEN, HIDDEN)
    modules = (
        Dense(square, None, "Tanh", "token_embeddings", "token_embeddings", use_residual=True),
        Pooling(("mean", "lasttoken")),
    )
    check(modules, random(len(LENGTHS), WIDTH, HIDDEN), batch("left"))


class Sorting:
    """A module that uses what no graph has."""

    def convert(self, to_array: Any) -> Sorting:
        return self

    def __call__(self, xp: Any, features: Any) -> None:
        features["sentence_embedding"] = xp.sort(features["token_embeddings"])[:, 0]


class Asking(Sorting):
    """A module that looks at numbers before there are any."""

    def __call__(self, xp: Any, features: Any) -> None:
        if features["mask"].sum(axis=1) == 0:
            features["sentence_embedding"] = features["mask"]


@pytest.mark.parametrize(
    "modules",
    [(Sorting(),), (Asking(),), (Pooling(("mean",)), Dense(random(5, HIDDEN), None, "Unheard"))],
    ids=lambda modules: type(modules[-1]).__name__,
)
def test_what_a_graph_cannot_hold_is_named(modules: tuple[Any, ...]) -> None:
    name = type(modules[-1]).__name__
    with pytest.raises(core.UnsupportedOperation, match=rf"{name} .*device='cpu'"):
        pooling_graph(modules)
    assert append_modules(token_graph(), modules) is None


def test_modules_that_pool_nothing_are_named() -> None:
    with pytest.raises(core.UnsupportedOperation, match=r"Normalize.*device='cpu'"):
        pooling_graph((Normalize(),))


def test_openvino_needs_the_mask() -> None:
    assert append_modules(token_graph(mask="position_ids"), (Pooling(("mean",)),)) is None
