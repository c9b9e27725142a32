"""Batches without padding: the same results as padded ones, on a CPU with PyTorch's own attention.

The kernels of a GPU cannot run here: which of them is chosen, and what happens where one fails, is
tested; what they compute is checked on the GPU itself, whenever a model is loaded there.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import core
from core.architecture.modules import Dense, Normalize, Pooling
from core.toolkit import POOLING_MODES, pad
from tests.conftest import copy_model, kept, one_is_quick
from tests.outputs.conftest import OUTPUTS, assert_alike, build_m3
from tests.tiny_models import SPECS
from torch_backend import session
from torch_backend.packed import attention, encoders, fusions, normed_sums
from torch_backend.packed.encoders import packed_encoder
from torch_backend.packed.runner import PackedRunner, find_fault, probe_batch
from torch_backend.packed.tokens import PackedTokens, Segments
from torch_backend.session import TorchRuntime

KNOWN = (
    "bert-cls",
    "bert-mean",
    "bert-prompts",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "modernbert",
)
#: Also what tokenizers make padding tokens of, in the middle of a text.
TEXTS = [
    "",
    "a",
    "A fox.",
    "she sells sea shells",
    "she sells sea stones",
    "The quick brown fox jumps over the lazy dog. " * 9,
    "机器学习 🙂",
    "word " * 600,
    "<pad> one <pad> two [PAD] three",
]
#: Tokens of each text of a batch.
MIXES = [[1], [2], [1, 2], [7, 7, 7], [31, 1, 16, 2, 64, 3], [128, 127, 1], [40, 0, 5]]


def load(path: Path, **arguments: Any) -> core.EmbeddingModel:
    return core.load(path, backend="torch", device="cpu", **arguments)


@pytest.fixture(scope="module")
def pair(
    tiny_model: Callable[[str], Path],
) -> Iterator[Callable[[str], tuple[core.EmbeddingModel, core.EmbeddingModel]]]:
    """`pair(name)`: a model with padded batches, and the same with packed ones."""
    opened: dict[str, tuple[core.EmbeddingModel, core.EmbeddingModel]] = {}

    def get(name: str) -> tuple[core.EmbeddingModel, core.EmbeddingModel]:
        if name not in opened:
            path = tiny_model(name)
            both = load(path), load(path, model_kwargs={"packed": True})
            for model in both:
                stack.enter_context(model)
                stack.enter_context(kept(model))
            opened[name] = both
        return opened[name]

    with ExitStack() as stack:
        yield get


def batch_of(model: core.EmbeddingModel, lengths: list[int], side: str) -> core.TokenBatch:
    """Seeded token ids, those of special tokens and of padding among them."""
    vocabulary = model.runtime.vocabulary
    ids = np.random.default_rng(len(lengths)).integers(0, vocabulary, sum(lengths))
    pad_id = model.tokenizer.pad_id
    return pad(ids.astype(np.int32), np.array(lengths, dtype=np.int64), pad_id, side)


@pytest.mark.parametrize("name", KNOWN)
def test_packed_texts_have_the_embeddings_of_padded_ones(pair: Any, name: str) -> None:
    padded, packed = pair(name)
    assert (padded.runtime.packed, padded.runtime.attention) == (False, None)
    assert (packed.runtime.packed, packed.runtime.attention) == (True, "sdpa")
    expected = padded.encode(TEXTS)
    np.testing.assert_allclose(packed.encode(TEXTS), expected, atol=1e-5)
    alone = np.stack([packed.encode(text) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    tokens = zip(
        packed.encode(TEXTS, output_value="token_embeddings"),
        padded.encode(TEXTS, output_value="token_embeddings"),
        strict=True,
    )
    for found, wanted in tokens:
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", KNOWN)
def test_any_mix_of_lengths_and_either_side_of_padding(pair: Any, name: str, side: str) -> None:
    padded, packed = pair(name)
    for lengths in MIXES:
        batch = batch_of(padded, lengths, side)
        # What the padded model makes of a row without tokens differs from version to version.
        rows = np.array(lengths) > 0
        expected = padded.runtime.sentence_embeddings(batch)[rows]
        found = packed.runtime.sentence_embeddings(batch)
        np.testing.assert_allclose(found[rows], expected, atol=1e-5, err_msg=str(lengths))
        assert np.isfinite(found).all()
        hidden = packed.runtime.token_embeddings(batch)
        real = batch.attention_mask > 0
        exact = padded.runtime.token_embeddings(batch)
        np.testing.assert_allclose(hidden[real], exact[real], atol=1e-5, err_msg=str(lengths))
        assert not hidden[~real].any()


def test_types_of_tokens_are_used(pair: Any) -> None:
    padded, packed = pair("bert-mean")
    batch = batch_of(padded, [5, 9, 2], "right")
    typed = replace(batch, token_type_ids=batch.input_ids % 2 * batch.attention_mask)
    expected, found = (m.runtime.sentence_embeddings(typed) for m in (padded, packed))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, packed.runtime.sentence_embeddings(batch), atol=1e-3)


def test_positions_of_roberta_start_after_its_padding_token(pair: Any) -> None:
    # A text of one word alone: were its positions 0, 1, 2, its embedding would be another's.
    padded, packed = pair("roberta")
    found, expected = (
        m.encode(["fox"], output_value="token_embeddings")[0] for m in (packed, padded)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    module = packed.runtime.module
    ids = torch.from_numpy(packed.tokenize(["fox"])["input_ids"])
    with torch.inference_mode():
        places = torch.arange(2, 2 + ids.shape[1])[None]
        by_hand = module(input_ids=ids, position_ids=places).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_mode_with_and_without_the_prompt(pair: Any, include_prompt: bool) -> None:
    padded, packed = pair("bert-mean")
    pooling = Pooling(POOLING_MODES, include_prompt=include_prompt)
    modules = (pooling, Normalize())
    batch = replace(batch_of(padded, [9, 4, 3, 2, 30], "right"), prompt_tokens=3)
    found, expected = (
        runtime_with(m, modules, packed=m is packed).sentence_embeddings(batch)
        for m in (packed, padded)
    )
    assert found.shape == (5, 6 * 32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def runtime_with(model: core.EmbeddingModel, modules: Any, *, packed: bool) -> TorchRuntime:
    runtime = model.runtime
    architecture = replace(runtime.architecture, modules=modules)
    return TorchRuntime(architecture, runtime.module, runtime.tensor_device, packed=packed)


def test_prompts_are_left_out_of_pooling(pair: Any) -> None:
    padded, packed = pair("bert-prompts")
    for name in ("query", "passage"):
        expected = padded.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(packed.encode(TEXTS, prompt_name=name), expected, atol=1e-5)
        assert not np.allclose(expected, padded.encode(TEXTS), atol=1e-3)


def test_modules_of_tokens_before_pooling(pair: Any) -> None:
    padded, packed = pair("bert-mean")
    weight = np.random.default_rng(3).normal(size=(8, 32)).astype(np.float32)
    modules = (
        Dense(weight, None, "Tanh", "token_embeddings",
              "token_embeddings"),
        Pooling(("mean",)),
        Dense(weight[:, :8], None, "Identity"),
    )  # fmt: skip
    batch = batch_of(padded, [9, 4, 30], "right")
    found, expected = (
        runtime_with(m, modules, packed=m is packed).sentence_embeddings(batch)
        for m in (packed, padded)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", one_is_quick("mpnet", sorted(SPECS.keys() - set(KNOWN))))
def test_other_architectures_stay_padded(pair: Any, name: str) -> None:
    padded, packed = pair(name)
    assert not packed.runtime.packed
    np.testing.assert_array_equal(packed.encode(TEXTS), padded.encode(TEXTS))


def test_on_a_cpu_nothing_is_packed_unasked(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights put side by side took a fifth of the time that loading takes."""
    copied: list[Any] = []
    usual = encoders.side_by_side

    def counted(*layers: torch.nn.Module) -> Any:
        copied.extend(layers)
        return usual(*layers)

    monkeypatch.setattr(encoders, "side_by_side", counted)
    load: dict[str, Any] = {"backend": "torch", "device": "cpu"}
    with core.load(tiny_model("bert-mean"), **load):
        assert not copied
    with core.load(tiny_model("bert-mean"), model_kwargs={"packed": True}, **load):
        assert copied


def test_a_decoder_or_code_of_its_own_is_not_taken_for_what_its_name_says(pair: Any) -> None:
    module = pair("bert-mean")[0].runtime.module
    assert packed_encoder(module) is not None
    own = type("BertModel", (type(module),), {"__module__": "transformers_modules.own"})
    module.__class__, usual = own, type(module)
    assert packed_encoder(module) is None
    module.__class__ = usual
    for name, value in (("is_decoder", True), ("position_embedding_type", "relative_key")):
        before = getattr(module.config, name, None)
        setattr(module.config, name, value)
        assert packed_encoder(module) is None
        setattr(module.config, name, before)


def test_int8_weights_stay_padded(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    with load(folder) as exact:
        core.quantize(exact, num_samples=8)
    arguments: dict[str, Any] = {"file_name": "model_qint8.safetensors"}
    with load(folder, **arguments) as padded:
        expected = padded.encode(TEXTS)
    with load(folder, **arguments, model_kwargs={"packed": True}) as packed:
        assert (packed.dtype, packed.runtime.packed) == ("int8", False)
        np.testing.assert_array_equal(packed.encode(TEXTS), expected)


KINDS = [
    ("reranker-bert", core.load_reranker),
    ("splade", core.load_sparse),
    ("colbert", core.load_multi_vector),
]


@pytest.mark.parametrize(("name", "loads"), KINDS, ids=[name for name, _ in KINDS])
def test_other_kinds_of_models_stay_padded(
    tiny_kind: Callable[[str], Path], name: str, loads: Callable[..., Any]
) -> None:
    with (
        loads(tiny_kind(name), backend="torch", device="cpu") as padded,
        loads(
            tiny_kind(name), backend="torch", device="cpu", model_kwargs={"packed": True}
        ) as asked,
    ):
        assert not asked.runtime.packed
        inputs: Any = TEXTS[:4]
        if name.startswith("reranker"):
            np.testing.assert_array_equal(
                asked.predict([(a, "fox") for a in inputs]),
                padded.predict([(a, "fox") for a in inputs]),
            )
            return
        for found, expected in zip(asked.encode(inputs), padded.encode(inputs), strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("value", ["yes", 1, 0, [True]], ids=repr)
def test_packed_takes_true_false_and_none(tiny_model: Callable[[str], Path], value: Any) -> None:
    with pytest.raises(core.OptionError, match=r"packed must be True, False, or None .* not "):
        load(tiny_model("bert-mean"), model_kwargs={"packed": value})


@pytest.mark.parametrize(
    "options",
    [{}, {"packed": None}, {"packed": False}, {"attn_implementation": "eager"}],
    ids=str,
)
def test_a_cpu_pads_unless_told_otherwise(
    tiny_model: Callable[[str], Path], options: dict[str, Any]
) -> None:
    with load(tiny_model("bert-mean"), model_kwargs=options) as model:
        assert not model.runtime.packed
        assert (model.runtime.batches_ahead, model.runtime.texts_ahead) == (0, None)
        assert model.runtime.batch_tokens is None


@pytest.mark.parametrize(
    ("dtype", "head_size", "capability", "modules", "expected"),
    [
        (torch.float16, 32, (9, 0), ["torch.nn.attention.varlen", "flash_attn"], "varlen_attn"),
        (torch.bfloat16, 64, (8, 0), ["flash_attn"], "flash_attn"),
        (torch.float16, 32, (9, 0), [], "sdpa"),
        (torch.float32, 32, (9, 0), ["torch.nn.attention.varlen"], "sdpa"),
        (torch.float16, 12, (9, 0), ["torch.nn.attention.varlen"], "sdpa"),
        (torch.float16, 512, (9, 0), ["torch.nn.attention.varlen"], "sdpa"),
        (torch.float16, 32, (7, 5), ["torch.nn.attention.varlen"], "sdpa"),
    ],
)
def test_which_kernel_a_gpu_gets(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    head_size: int,
    capability: tuple[int, int],
    modules: list[str],
    expected: str,
) -> None:
    # No GPU here: what PyTorch would say of one, and what is installed, is faked.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in modules else None
    )
    assert attention.choose_attention(torch.device("cuda"), dtype, head_size) == expected


def attention_by_definition(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    window_size: tuple[int, int] = (-1, -1),
) -> torch.Tensor:
    """What the documentation of both kernels says, one text and one token after the other."""
    assert query.is_contiguous() or query.stride(-1) == 1
    assert query_bounds.dtype == key_bounds.dtype == torch.int32
    bounds = query_bounds.tolist()
    assert bounds == key_bounds.tolist()
    assert max(np.diff(bounds)) <= longest_query == longest_key
    result = torch.empty_like(query)
    for start, stop in itertools.pairwise(bounds):
        for i in range(start, stop):
            left, right = window_size
            first = start if left < 0 else max(start, i - left)
            last = stop if right < 0 else min(stop, i + right + 1)
            scores = torch.einsum("hd,khd->hk", query[i], key[first:last])
            weights = torch.softmax(scores / query.shape[-1] ** 0.5, dim=-1)
            result[i] = torch.einsum("hk,khd->hd", weights, value[first:last])
    return result


@pytest.mark.parametrize("kernel", ["varlen_attn", "flash_attn"])
@pytest.mark.parametrize("name", ["distilbert", "modernbert"])
def test_kernels_are_asked_for_the_right_thing(
    tiny_model: Callable[[str], Path],
    pair: Any,
    name: str,
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [*TEXTS[:5], TEXTS[5][:150]]
    expected = pair(name)[0].encode(texts)
    # The kernels run on GPUs only: in their place, what they are documented to compute.
    module = ModuleType("flash_attn")
    monkeypatch.setattr(module, "flash_attn_varlen_func", attention_by_definition, raising=False)
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    monkeypatch.setattr(varlen, "varlen_attn", attention_by_definition)
    monkeypatch.setattr(encoders, "choose_attention", lambda *arguments: kernel)
    with load(tiny_model(name), model_kwargs={"packed": True}) as model:
        assert model.runtime.attention == kernel
        monkeypatch.setitem(sys.modules, "flash_attn", module)  # not before: transformers looks
        np.testing.assert_allclose(model.encode(texts), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "windows"), [("roberta", (-1, -1)), ("modernbert", (8, -1))])
def test_pytorch_s_kernel_takes_what_encoders_give(
    pair: Any, name: str, windows: tuple[int, int]
) -> None:
    # PyTorch's own description of its kernel, which runs without numbers and without a GPU.
    pytest.importorskip("torch.nn.attention.varlen")
    calls: list[Any] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "_varlen_attn" in str(func):
                calls.append(args)
            return func(*args, **(kwargs or {}))

    module = deepcopy(pair(name)[0].runtime.module).to(device="meta", dtype=torch.float16)
    encoder = packed_encoder(module)
    assert encoder is not None
    encoder.attention = "varlen_attn"
    ids = torch.zeros(10, dtype=torch.int32, device="meta")
    bounds = torch.zeros(4, dtype=torch.int32, device="meta")
    tokens = PackedTokens(ids, ids, None, bounds, 5, None, Segments(bounds))
    watch = Watch()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), watch:
        hidden = encoder(tokens)
    assert (tuple(hidden.shape), hidden.dtype) == ((10, 32), torch.float16)
    assert len(calls) == 2
    assert sorted(call[9] for call in calls) == sorted([w, w] for w in windows)
    assert all(call[0].shape == (10, 4, 8) and call[0].dtype == torch.float16 for call in calls)


def test_varlen_attention_is_where_pytorch_has_it() -> None:
    pytest.importorskip("torch.nn.attention.varlen")
    from torch.nn.attention.varlen import varlen_attn

    names = list(inspect.signature(varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert "window_size" in names


def packed_runner(model: core.EmbeddingModel, **arguments: Any) -> PackedRunner:
    runtime = model.runtime
    encoder = packed_encoder(runtime.module)
    assert encoder is not None
    device = runtime.tensor_device
    modules = runtime.architecture.modules
    return PackedRunner(encoder, modules, device, torch.from_numpy, has_types=True, **arguments)


def test_a_kernel_that_fails_or_errs_is_found(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    padded, _ = pair("bert-mean")
    runner = packed_runner(padded)
    batch = probe_batch(padded.runtime.vocabulary, padded.max_seq_length)
    exact = torch.from_numpy(padded.runtime.token_embeddings(batch))

    def find() -> str | None:
        with torch.inference_mode():
            return find_fault(runner, batch, lambda batch: exact)

    assert find() is None

    def broken(*arguments: Any) -> torch.Tensor:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(attention.ATTENTIONS, "sdpa", broken)
    assert "sdpa raised RuntimeError: no kernel image" in str(find())

    def blind(query: torch.Tensor, key: Any, value: torch.Tensor, *rest: Any) -> torch.Tensor:
        return value  # every token attends to itself alone

    monkeypatch.setitem(attention.ATTENTIONS, "sdpa", blind)
    assert "have a cosine of" in str(find())
    monkeypatch.setitem(attention.ATTENTIONS, "sdpa", lambda query, *rest: query * torch.nan)
    assert "have a cosine of nan" in str(find())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes the kernel is asked for; in its place, which needs a GPU, what it computes."""
    shapes: list[tuple[int, ...]] = []

    def normed_sum(norm: Any, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        assert x.shape == residual.shape
        shapes.append(tuple(x.shape))
        result: torch.Tensor = norm(x + residual)
        return result

    monkeypatch.setattr(normed_sums, "normed_sum", normed_sum)
    monkeypatch.setattr(session, "can_fuse", lambda device, dtype: True)
    return shapes


@pytest.mark.parametrize("name", ["bert-mean", "xlm-roberta", "distilbert", "modernbert"])
def test_fused_steps_give_the_same(
    tiny_model: Callable[[str], Path], pair: Any, name: str, asked: list[tuple[int, ...]]
) -> None:
    expected = pair(name)[0].encode(TEXTS)
    with load(tiny_model(name), model_kwargs={"packed": True}) as model:
        assert model.runtime.packed
        asked.clear()
        np.testing.assert_allclose(model.encode(TEXTS, workers=1), expected, atol=1e-5)
        layers = model.runtime.module.config.num_hidden_layers
    if name == "modernbert":  # which normalizes before its sums
        assert asked == []
    else:
        assert asked
        assert len(asked) % (2 * layers + 1) == 0


def test_steps_that_cannot_be_fused_are_computed_one_by_one(
    tiny_model: Callable[[str], Path],
    pair: Any,
    asked: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = pair("bert-mean")[0].encode(TEXTS)

    def broken(*arguments: Any) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler")

    def wrong(norm: Any, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = norm(x)
        return result

    for kernel, why in (
        (broken, "RuntimeError: Failed to find C compiler"),
        (wrong, "a cosine of"),
    ):
        monkeypatch.setattr(normed_sums, "normed_sum", kernel)
        caplog.clear()
        with caplog.at_level("INFO", "core"):
            model = load(tiny_model("bert-mean"), model_kwargs={"packed": True})
        with model:
            assert model.runtime.packed
            np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
        (said,) = [r.getMessage() for r in caplog.records if "no steps are fused" in r.getMessage()]
        assert why in said


def test_only_layers_that_do_what_their_class_does_are_fused() -> None:
    dense, norm = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)
    x, residual = torch.ones(2, 4), torch.arange(8.0).view(2, 4)

    class Own(torch.nn.LayerNorm):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input * 2

    assert torch.equal(fusions.normed_sum(Own(4), True)(x, residual), (x + residual) * 2)
    plain = torch.nn.LayerNorm(4, bias=False)
    assert torch.equal(fusions.normed_sum(plain, True)(x, residual), plain(x + residual))
    relu = fusions.activated(dense, torch.nn.ReLU(), True)
    assert torch.equal(relu(x), torch.relu(dense(x)))
    patched = torch.nn.Linear(4, 4)
    patched.forward = lambda input: input * 3  # type: ignore[method-assign]
    assert torch.equal(fusions.activated(patched, torch.nn.GELU(), True)(x), torch.nn.GELU()(x * 3))
    with torch.inference_mode():
        fused = fusions.activated(dense, torch.nn.GELU(), True)(x)
    torch.testing.assert_close(fused, torch.nn.GELU()(dense(x)), atol=1e-3, rtol=0)
    assert torch.equal(fusions.normed_sum(norm, False)(x, residual), norm(x + residual))


@pytest.mark.parametrize(
    ("device", "dtype", "cuda", "triton", "fused"),
    [
        ("cuda", torch.float16, "13.0", True, True),
        ("cuda:1", torch.bfloat16, "12.8", True, True),
        ("cuda", torch.float32, "13.0", True, False),
        ("cuda", torch.float16, "13.0", False, False),
        ("cuda", torch.float16, None, True, False),  # ROCm, which calls itself cuda
        ("cpu", torch.float16, None, True, False),
    ],
)
def test_where_steps_are_fused(
    device: str,
    dtype: torch.dtype,
    cuda: str | None,
    triton: bool,
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if triton else None)
    assert fusions.can_fuse(torch.device(device), dtype) is fused


@pytest.mark.parametrize("name", ["bert-mean", "roberta", "modernbert"])
def test_short_single_texts_by_recorded_graphs(pair: Any, name: str) -> None:
    padded, _ = pair(name)
    recorded: list[Any] = []

    def record(device: torch.device, function: Callable[[], torch.Tensor]) -> Any:
        """Computes again on the same tensors, as a CUDA graph does."""
        recorded.append(function)
        return function

    runner = packed_runner(padded, record=record)
    with torch.inference_mode():
        for turn in range(4):
            for length in (1, 3, 8, 9, 60, 128):
                batch = batch_of(padded, [length], "right")
                found = runner.sentence_embeddings(batch).numpy()
                expected = padded.runtime.sentence_embeddings(batch)
                np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=str((turn, length)))
    assert len(recorded) == 4  # 8, 16, 64 and 128 tokens


def test_texts_without_a_graph_are_computed_all_the_same(pair: Any) -> None:
    padded, _ = pair("bert-mean")
    tries: list[int] = []

    def record(device: torch.device, function: Any) -> Any:
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    runner = packed_runner(padded, record=record)
    batches = [batch_of(padded, lengths, "right") for lengths in ([5], [5], [5], [5], [5], [5, 6])]
    typed = replace(batches[0], token_type_ids=np.ones_like(batches[0].token_type_ids))
    with torch.inference_mode():
        for batch in (*batches, typed):
            found = runner.sentence_embeddings(batch).numpy()
            np.testing.assert_allclose(found, padded.runtime.sentence_embeddings(batch), atol=1e-5)
    assert len(tries) == 1


def test_packed_models_are_pickled_as_such(pair: Any) -> None:
    _, packed = pair("bert-mean")
    with pickle.loads(pickle.dumps(packed)) as again:
        assert again.runtime.packed


def test_the_option_is_named_with_the_backends_others(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(core.OptionError, match=r"packd.*packed"):
        load(tiny_model("bert-mean"), model_kwargs={"packd": True})


def test_several_outputs_of_one_packed_pass(tmp_path: Path) -> None:
    path = build_m3(tmp_path / "model")
    with load(path) as padded, load(path, model_kwargs={"packed": True}) as packed:
        assert packed.runtime.packed
        found, expected = (m.encode(TEXTS, outputs=OUTPUTS) for m in (packed, padded))
    rows = zip(
        expected["dense"], expected["sparse"].to_dicts(), expected["multi_vector"], strict=True
    )
    assert_alike(found, [dict(zip(OUTPUTS, row, strict=True)) for row in rows])
