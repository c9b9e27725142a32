"""Outputs that a model, a backend or a call cannot give: who says so, and what helps."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import hookimpl
from core.plugin.registry import registry
from tests.checkpoint.dialects import build_dialect
from tests.conftest import copy_model
from tests.outputs.conftest import OUTPUTS, TEXTS, assert_alike

Models = dict[str, core.EmbeddingModel]


def test_a_model_without_heads(minilm_torch: core.EmbeddingModel) -> None:
    assert minilm_torch.outputs == ("dense",)
    found = minilm_torch.encode(["one"], outputs=("dense",))
    np.testing.assert_allclose(found["dense"], minilm_torch.encode(["one"]), atol=1e-6)
    with pytest.raises(core.UnsupportedOperation, match=r"sparse.*sparse_linear\.pt.*bge-m3"):
        minilm_torch.encode(["one"], outputs=("dense", "sparse"))


def test_static_embeddings_are_dense(tmp_path: Path) -> None:
    with core.load(build_dialect("static-table", tmp_path / "static"), backend="torch") as model:
        found = model.encode(["a b", "c"], outputs=("dense",))
        np.testing.assert_array_equal(found["dense"], model.encode(["a b", "c"]))


def test_a_model_with_one_head(m3: Path, tmp_path: Path) -> None:
    folder = copy_model(m3, tmp_path / "model")
    (folder / "colbert_linear.pt").unlink()
    with core.load(folder, backend="torch", device="cpu") as model:
        assert model.outputs == ("dense", "sparse")
        assert list(model.encode(TEXTS, outputs=model.outputs)) == ["dense", "sparse"]
        with pytest.raises(core.UnsupportedOperation, match=r"colbert_linear\.pt"):
            model.encode(TEXTS, outputs=OUTPUTS)


@pytest.mark.parametrize(
    "outputs", [(), "sparse", ("sparse", "sparse"), ("sparce",), [["dense"]], 3, ("dense", None)]
)
def test_no_outputs(models: Models, outputs: Any) -> None:
    with pytest.raises(core.OptionError, match="outputs must be some of 'dense', 'sparse'"):
        models["torch"].encode(TEXTS, outputs=outputs)


def test_token_embeddings_are_another_thing(models: Models) -> None:
    with pytest.raises(core.OptionError, match="pass one of them"):
        models["torch"].encode(TEXTS, outputs=OUTPUTS, output_value="token_embeddings")


def test_a_stream_says_so_before_it_starts(minilm_torch: core.EmbeddingModel) -> None:
    with pytest.raises(core.UnsupportedOperation, match="sparse"):
        next(minilm_torch.encode_stream(iter(["one"]), outputs=("sparse",)))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sparse_linear.pt", {"weight": (2, 32), "bias": (2,)}),
        ("colbert_linear.pt", {"weight": (8, 31), "bias": (8,)}),
        ("colbert_linear.pt", {"weight": (8, 32), "bias": (7,)}),
        ("colbert_linear.pt", {"linear.weight": (8, 32)}),
    ],
)
def test_a_head_of_another_model(
    m3: Path, tmp_path: Path, file: str, content: dict[str, tuple[int, ...]]
) -> None:
    import torch

    folder = copy_model(m3, tmp_path / "model")
    (folder / file).unlink()
    torch.save({name: torch.zeros(shape) for name, shape in content.items()}, folder / file)
    with pytest.raises(core.ModelFormatError, match=rf"{file} must hold a linear layer's weight"):
        core.load(folder, backend="torch", device="cpu")


def test_a_head_that_is_no_weights(m3: Path, tmp_path: Path) -> None:
    """A pickle's code does not run."""
    import pickle

    folder = copy_model(m3, tmp_path / "model")
    (folder / "sparse_linear.pt").unlink()
    (folder / "sparse_linear.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(core.ModelFormatError, match=r"sparse_linear\.pt"):
        core.load(folder, backend="torch", device="cpu")


def test_heads_of_half_precision_without_bias(m3: Path, tmp_path: Path) -> None:
    import torch

    folder = copy_model(m3, tmp_path / "model")
    for name in ("sparse_linear.pt", "colbert_linear.pt"):
        state = torch.load(folder / name, weights_only=True)
        (folder / name).unlink()
        torch.save({"weight": state["weight"].half()}, folder / name)
    with core.load(folder, backend="torch", device="cpu") as model:
        found = model.encode(TEXTS, outputs=OUTPUTS)
        heads = model.source.architecture.token_heads
        assert heads is not None
        assert heads.sparse is not None
        assert heads.sparse.bias is None
    assert len(found["multi_vector"]) == len(TEXTS)


# Backends of other people


class _Plain(core.Runtime):
    """Token embeddings of the torch backend's runtime, and nothing else."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.architecture)
        self._inner = inner

    def token_embeddings(self, batch: Any, *, workers: int = 1) -> Any:
        return self._inner.token_embeddings(batch)


def _backend(inner: Any, **attributes: Any) -> Any:
    plugin = types.ModuleType("plain_backend")

    @hookimpl
    def load(source: Any, options: Any) -> Any:
        return core.build_model(source, options, lambda *_: _Plain(inner))

    @hookimpl
    def encode(model: Any, texts: Any, options: Any) -> Any:
        return core.encode_texts(model, texts, options)

    for name, value in {"load": load, "encode": encode, **attributes}.items():
        setattr(plugin, name, value)
    return plugin


@pytest.fixture
def register() -> Iterator[Callable[[Any], str]]:
    """`register(plugin)`: the name of a backend, forgotten after the test."""
    name = "plain"

    def named(plugin: Any) -> str:
        core.register_backend(name, plugin)
        return name

    yield named
    registry.unregister("core.backends", name)


def test_a_backend_that_states_nothing_is_not_asked(
    m3: Path, models: Models, register: Callable[[Any], str]
) -> None:
    with core.load(m3, backend=register(_backend(models["torch"].runtime))) as model:
        assert model.outputs == ("dense",)
        found = model.encode(TEXTS, outputs=("dense",))["dense"]
        np.testing.assert_array_equal(found, model.encode(TEXTS))
        with pytest.raises(core.UnsupportedOperation, match=r"plain backend.*its OUTPUTS"):
            model.encode(TEXTS, outputs=OUTPUTS)


def test_a_backend_that_states_them_needs_token_embeddings_alone(
    m3: Path,
    models: Models,
    expected: list[dict[str, Any]],
    register: Callable[[Any], str],
) -> None:
    backend = register(_backend(models["torch"].runtime, OUTPUTS=OUTPUTS))
    with core.load(m3, backend=backend) as model:
        assert_alike(model.encode(TEXTS, outputs=OUTPUTS), expected)


@pytest.mark.parametrize("stated", [("sparse",), ("dense", "colbert"), ()])
def test_what_a_backend_may_state(
    models: Models, stated: tuple[str, ...], register: Callable[[Any], str]
) -> None:
    name = register(_backend(models["torch"].runtime, OUTPUTS=stated))
    with pytest.raises(core.PluginError, match="its OUTPUTS must be 'dense' and others"):
        core.hooks(name)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros((1, 32), np.float32), "returned ndarray, not a dictionary with dense, sparse"),
        ({"dense": np.zeros((1, 32), np.float32)}, "returned dense, not a dictionary"),
        (
            {"dense": np.zeros((1, 32), np.float32), "sparse": np.zeros((1, 9), np.float32)},
            "no SparseEmbeddings of 1 texts",
        ),
        (
            {
                "dense": np.zeros((2, 32), np.float32),
                "sparse": core.SparseEmbeddings.from_dense([[1.0]]),
            },
            r"shape \[2, 32\] for 1 texts.*of its dense embeddings",
        ),
    ],
)
def test_a_wrong_result_is_blamed(
    m3: Path, models: Models, result: Any, message: str, register: Callable[[Any], str]
) -> None:
    @hookimpl
    def encode(model: Any, texts: Any, options: Any) -> Any:
        return result

    plugin = _backend(models["torch"].runtime, OUTPUTS=OUTPUTS, encode=encode)
    with (
        core.load(m3, backend=register(plugin)) as model,
        pytest.raises(core.PluginError, match=message),
    ):
        model.encode(["one"], outputs=("dense", "sparse"))
