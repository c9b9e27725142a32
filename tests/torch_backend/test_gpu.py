"""What a GPU needs, as far as a CPU can show it: memory that runs out, budgets, half precision."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import core
from core.engine.similarity import similarity_pairwise
from core.sentence_transformers import SentenceTransformer
from tests.conftest import copy_model
from torch_backend import precision
from torch_backend.budget import gpu_batch_tokens, tokens_for
from torch_backend.session import TorchRuntime

TEXTS = [" ".join(["fox", "dog", "cat"][i % 3] for i in range(n)) for n in range(1, 40)]


def load(path: Path, **arguments: Any) -> core.EmbeddingModel:
    return core.load(path, backend="torch", device="cpu", **arguments)


@contextmanager
def memory_for(model: core.Model, tokens: int) -> Iterator[list[int]]:
    """A device that holds the hidden states of so many tokens: what its allocator raises is what
    PyTorch's raises for a GPU. Yields the tokens of each batch that did not fit."""
    refused: list[int] = []

    def allocate(module: torch.nn.Module, arguments: Any, result: torch.Tensor) -> None:
        count = result.shape[:-1].numel()
        if count > tokens:
            refused.append(count)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    layer = model.runtime.module.get_input_embeddings()
    handle = layer.register_forward_hook(allocate)
    yield refused
    handle.remove()


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_texts_are_computed_when_memory_runs_out(
    tiny_model: Callable[[str], Path], packed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with load(tiny_model("bert-mean"), model_kwargs={"packed": packed}) as model:
        expected = model.encode(TEXTS)
        tokens = model.encode(TEXTS, output_value="token_embeddings")
        caplog.set_level(logging.INFO, logger="core")
        with memory_for(model, 200) as refused:
            # All texts in one batch, as the caller asks for.
            found = model.encode(TEXTS, batch_tokens=10_000, workers=1)
            np.testing.assert_allclose(found, expected, atol=1e-5)
            assert refused
            limit = model.runtime.batch_tokens
            assert limit is not None
            assert limit <= 400
            assert f"from now on batches have {limit}" in caplog.text
            refused.clear()
            np.testing.assert_allclose(model.encode(TEXTS, workers=1), expected, atol=1e-5)
            larger = model.encode(TEXTS, batch_tokens=10_000, output_value="token_embeddings")
            for a, b in zip(larger, tokens, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)
            assert refused == []  # what was learnt is kept


def test_scores_are_computed_when_memory_runs_out(tiny_kind: Callable[[str], Path]) -> None:
    pairs = [(text, "fox") for text in TEXTS]
    with core.load_reranker(tiny_kind("reranker-bert"), backend="torch", device="cpu") as model:
        expected = model.predict(pairs)
        with memory_for(model, 100) as refused:
            found = model.predict(pairs, batch_tokens=5_000)
        assert refused
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_that_does_not_fit_alone_is_named(tiny_model: Callable[[str], Path]) -> None:
    with load(tiny_model("bert-mean")) as model:
        with memory_for(model, 30), pytest.raises(core.PluginError, match=r"smaller batch_tokens"):
            model.encode(TEXTS)
        assert model.encode(TEXTS).shape == (len(TEXTS), 32)


def layers(hidden: int, inner: int, count: int) -> torch.nn.Module:
    """The linear layers of BERTs of these sizes, without their weights."""

    def linear(a: int, b: int) -> torch.nn.Linear:
        return torch.nn.Linear(a, b, device="meta")

    return torch.nn.ModuleList(
        torch.nn.ModuleList(
            [
                *(linear(hidden, hidden) for _ in range(4)),
                linear(hidden, inner),
                linear(inner, hidden),
            ]
        )
        for _ in range(count)
    )


MINILM, E5_SMALL, BASE, LARGE = (
    (384, 1_536, 6),
    (384, 1_536, 12),
    (768, 3_072, 12),
    (1_024, 4_096, 24),
)
GIB = 2**30


@pytest.mark.parametrize(
    ("capability", "processors", "dtype", "sizes", "free", "expected"),
    [
        ((9, 0), 132, torch.float16, MINILM, 78 * GIB, 131_072),
        ((9, 0), 132, torch.float16, E5_SMALL, 78 * GIB, 65_536),
        ((9, 0), 132, torch.float16, BASE, 78 * GIB, 16_384),
        ((9, 0), 132, torch.float16, LARGE, 78 * GIB, 8_192),
        ((9, 0), 132, torch.float16, MINILM, 1 * GIB, 16_384),
        ((9, 0), 132, torch.float32, MINILM, 78 * GIB, 8_192),
        ((7, 5), 40, torch.float16, BASE, 15 * GIB, 8_192),
        ((6, 1), 20, torch.float16, MINILM, 8 * GIB, 8_192),
        ((11, 0), 132, torch.bfloat16, MINILM, 78 * GIB, 131_072),
    ],
)
def test_a_gpu_gets_ten_milliseconds_of_work(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    processors: int,
    dtype: torch.dtype,
    sizes: tuple[int, int, int],
    free: int,
    expected: int,
) -> None:
    # No GPU here: what PyTorch would say of one is faked.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    properties = SimpleNamespace(multi_processor_count=processors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    assert gpu_batch_tokens(layers(*sizes), torch.device("cuda"), dtype) == expected


def test_a_module_without_linear_layers_has_a_budget() -> None:
    assert tokens_for(torch.nn.Embedding(9, 9), torch.float32, 1e12, 8 * GIB) == 131_072


@pytest.fixture
def cpu_as_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice of a precision, which is for accelerators, on this machine's processor."""
    monkeypatch.setattr(precision, "ACCELERATORS", ("cpu",))


AUTO = {"dtype": "auto"}


@pytest.mark.usefixtures("cpu_as_accelerator")
def test_auto_chooses_float16_where_it_agrees(
    tiny_model: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="core")
    with load(tiny_model("bert-cls")) as exact:
        expected = exact.encode(TEXTS)
    with load(tiny_model("bert-cls"), model_kwargs={**AUTO, "packed": True}) as model:
        assert (model.dtype, model.runtime.packed) == ("float16", True)
        assert "computes in float16, which agrees with float32" in caplog.text
        found = model.encode(TEXTS)
        assert found.dtype == np.float32
        assert similarity_pairwise(found, expected).min() > 0.999
        with pickle.loads(pickle.dumps(model)) as again:
            assert again.dtype == "float16"


def overflowing(path: Path, target: Path) -> Path:
    """A copy of a BERT whose states between two layers are beyond float16, and whose embeddings
    are not."""
    from safetensors.torch import load_file, save_file

    copied = copy_model(path, target)
    weights = load_file(copied / "model.safetensors")
    scaled = "encoder.layer.0.output.dense"
    weights = {n: w * (3e5 if n.startswith(scaled) else 1) for n, w in weights.items()}
    (copied / "model.safetensors").unlink()  # a link to the other model's
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


@pytest.mark.usefixtures("cpu_as_accelerator")
def test_auto_falls_back_where_float16_overflows(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="core")
    folder = overflowing(tiny_model("bert-mean"), tmp_path / "model")
    with load(folder, model_kwargs=AUTO) as model:
        assert "does not compute in float16: a result is not finite" in caplog.text
        assert model.dtype == "bfloat16"
        assert np.isfinite(model.encode(TEXTS)).all()
    monkeypatch.setattr(precision, "LEAST_COSINE", 1.1)
    with load(folder, model_kwargs=AUTO) as model, load(folder) as exact:
        assert "does not compute in bfloat16: a cosine of " in caplog.text
        assert model.dtype == "float32"
        np.testing.assert_array_equal(model.encode(TEXTS), exact.encode(TEXTS))


@pytest.mark.usefixtures("cpu_as_accelerator")
def test_auto_stays_in_float32_where_memory_holds_no_second_copy(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(runtime: TorchRuntime, dtype: torch.dtype) -> TorchRuntime:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(TorchRuntime, "converted", refuse)
    with load(tiny_model("bert-cls"), model_kwargs=AUTO) as model:
        assert model.dtype == "float32"
        assert np.isfinite(model.encode(TEXTS)).all()


LOADS = [
    ("reranker-bert", core.load_reranker),
    ("splade", core.load_sparse),
    ("colbert", core.load_multi_vector),
]


@pytest.mark.usefixtures("cpu_as_accelerator")
@pytest.mark.parametrize(("name", "loads"), LOADS, ids=[name for name, _ in LOADS])
def test_auto_chooses_for_every_kind_of_model(
    tiny_kind: Callable[[str], Path],
    name: str,
    loads: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, arguments = tiny_kind(name), {"backend": "torch", "device": "cpu", "model_kwargs": AUTO}
    with loads(path, **arguments) as model:
        assert model.dtype == "float16"
    monkeypatch.setattr(precision, "LEAST_COSINE", 1.1)
    monkeypatch.setattr(precision, "MOST_DIFFERENCE", -1.0)
    with loads(path, **arguments) as model:
        assert model.dtype == "float32"


@pytest.mark.usefixtures("cpu_as_accelerator")
@pytest.mark.parametrize("options", [{}, {"torch_dtype": "auto"}], ids=str)
def test_only_dtype_auto_asks_for_a_choice(
    tiny_model: Callable[[str], Path], options: dict[str, Any]
) -> None:
    # `torch_dtype="auto"` is transformers' own: what the file stores.
    with load(tiny_model("bert-cls"), model_kwargs=options) as model:
        assert model.dtype == "float32"


@pytest.mark.usefixtures("cpu_as_accelerator")
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_auto_of_the_drop_in_is_the_dtype_of_the_file(
    tiny_model: Callable[[str], Path], name: str
) -> None:
    model = SentenceTransformer(str(tiny_model("bert-cls")), model_kwargs={name: "auto"})
    assert model.dtype == torch.float32


@pytest.mark.usefixtures("cpu_as_accelerator")
@pytest.mark.parametrize("other", ["float32", "bfloat16"])
def test_auto_and_another_dtype_are_not_both_taken(
    tiny_model: Callable[[str], Path], other: str
) -> None:
    with pytest.raises(core.OptionError, match=r"dtype='auto' and torch_dtype=.*pass one of them"):
        load(tiny_model("bert-cls"), model_kwargs={**AUTO, "torch_dtype": other})


@pytest.mark.usefixtures("cpu_as_accelerator")
def test_auto_leaves_a_file_of_a_precision_in_it(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_model(tiny_model("bert-cls"), tmp_path / "model")
    with load(folder) as model:
        model.optimize("bf16")
    file = {"file_name": "model_bf16.safetensors"}
    with load(folder, **file, model_kwargs=AUTO) as model:
        assert model.dtype == "bfloat16"


def test_auto_on_a_cpu_keeps_what_the_file_stores(tiny_model: Callable[[str], Path]) -> None:
    with load(tiny_model("bert-cls"), model_kwargs=AUTO) as model:
        assert model.dtype == "float32"
