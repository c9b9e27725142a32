"""`encode(outputs=...)`: several kinds of embeddings of one pass, on every backend."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import core
from tests.outputs.conftest import BACKENDS, OUTPUTS, TEXTS, WIDTH, assert_alike

Models = dict[str, core.EmbeddingModel]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@each_backend
def test_all_three_are_those_of_the_published_formulas(
    backend: str, models: Models, expected: list[dict[str, Any]]
) -> None:
    model = models[backend]
    found = model.encode(TEXTS, outputs=OUTPUTS)
    assert tuple(found) == OUTPUTS
    assert isinstance(found["sparse"], core.SparseEmbeddings)
    assert found["sparse"].shape == (len(TEXTS), model.source.architecture.config["vocab_size"])
    assert all(vectors.shape[1] == WIDTH for vectors in found["multi_vector"])
    assert_alike(found, expected)


@each_backend
def test_batches_change_nothing(
    backend: str, models: Models, expected: list[dict[str, Any]]
) -> None:
    model = models[backend]
    for options in ({"batch_size": 1}, {"batch_tokens": 64}, {"workers": 1}, {"batch_size": 7}):
        assert_alike(model.encode(TEXTS, outputs=OUTPUTS, **options), expected)


@each_backend
def test_some_of_them_in_any_order(backend: str, models: Models) -> None:
    model = models[backend]
    whole = model.encode(TEXTS, outputs=OUTPUTS)
    for names in (("sparse",), ("multi_vector", "dense"), ["sparse", "multi_vector"], ("dense",)):
        found = model.encode(TEXTS, outputs=names)
        assert list(found) == list(names)
        for name in names:
            _assert_same(name, found[name], whole[name])


@each_backend
def test_dense_is_what_encode_gives(backend: str, models: Models) -> None:
    model = models[backend]
    found = model.encode(TEXTS, outputs=OUTPUTS, truncate_dim=8, normalize_embeddings=True)
    plain = model.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(found["dense"], plain, atol=1e-5)
    packed = model.encode(TEXTS, outputs=("dense", "sparse"), precision="ubinary")
    assert packed["dense"].dtype == np.uint8
    assert packed["dense"].shape == (len(TEXTS), 4)


@each_backend
def test_one_text_and_none(backend: str, models: Models) -> None:
    model = models[backend]
    whole = model.encode(TEXTS, outputs=OUTPUTS)
    one = model.encode(TEXTS[0], outputs=OUTPUTS)
    np.testing.assert_allclose(one["dense"], whole["dense"][0], atol=1e-5)
    assert one["sparse"].shape == (1, whole["sparse"].shape[1])
    np.testing.assert_allclose(one["multi_vector"], whole["multi_vector"][0], atol=1e-5)
    none = model.encode([], outputs=OUTPUTS)
    assert none["dense"].shape == (0, 32)
    assert none["sparse"].shape == (0, whole["sparse"].shape[1])
    assert none["multi_vector"] == []


def test_a_prompt_is_part_of_the_text(models: Models) -> None:
    model = models["torch"]
    found = model.encode_query(["fox"], outputs=OUTPUTS, prompt="quick ")
    same = model.encode(["quick fox"], outputs=OUTPUTS)
    for name in OUTPUTS:
        _assert_same(name, found[name], same[name])


def test_equal_texts_are_computed_once_and_are_their_own(models: Models) -> None:
    model = models["torch"]
    seen: list[int] = []
    compute = model.runtime.outputs

    def counting(batch: Any, names: Any, **options: Any) -> Any:
        seen.append(batch.rows)
        return compute(batch, names, **options)

    model.runtime.outputs = counting
    try:
        found = model.encode(["fox", "dog", "fox", "fox"], outputs=OUTPUTS)
    finally:
        del model.runtime.outputs
    assert sum(seen) == 2
    assert found["sparse"][0] == found["sparse"][2] == found["sparse"][3]
    first, _, second, _ = found["multi_vector"]
    np.testing.assert_array_equal(first, second)
    first[:] = 0
    assert second.any()


@each_backend
def test_one_pass_of_the_transformer_serves_all(
    backend: str, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch is run twice, and none for one kind of embeddings alone."""
    runtime = models[backend].runtime
    calls: list[str] = []
    inner = {"torch": "_forward", "onnx": "_run_all", "openvino": "_run_all"}[backend]
    run = getattr(runtime, inner)

    def counting(*arguments: Any) -> Any:
        calls.append(inner)
        return run(*arguments)

    monkeypatch.setattr(runtime, inner, counting)
    models[backend].encode(TEXTS, outputs=OUTPUTS, batch_tokens=100_000, workers=1)
    assert len(calls) == 1


@each_backend
def test_streams(backend: str, models: Models, expected: list[dict[str, Any]]) -> None:
    blocks = list(models[backend].encode_stream(iter(TEXTS), window=3, outputs=OUTPUTS))
    assert [len(block["dense"]) for block in blocks] == [3, 3, 1]
    for start, block in zip((0, 3, 6), blocks, strict=True):
        assert_alike(block, expected[start : start + 3])


@each_backend
def test_threads(backend: str, models: Models, expected: list[dict[str, Any]]) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                assert_alike(models[backend].encode(TEXTS, outputs=OUTPUTS), expected)
        except BaseException as error:  # a thread's own would be lost
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_tensors(models: Models) -> None:
    import torch

    found = models["torch"].encode(TEXTS, outputs=OUTPUTS, convert_to_tensor=True)
    assert isinstance(found["dense"], torch.Tensor)
    assert found["sparse"].is_sparse
    assert all(isinstance(vectors, torch.Tensor) for vectors in found["multi_vector"])


@pytest.mark.slow
def test_a_pool_of_processes(models: Models, expected: list[dict[str, Any]]) -> None:
    with core.ProcessPool(models["onnx"], processes=1) as pool:
        assert_alike(pool.encode(TEXTS, outputs=OUTPUTS), expected)
        one = pool.encode(TEXTS[1], outputs=("sparse",))
        assert one["sparse"].to_dicts()[0].keys() == expected[1]["sparse"].keys()
        blocks = list(pool.encode_stream(iter(TEXTS), window=4, outputs=OUTPUTS))
    assert_alike(blocks[0], expected[:4])


def _assert_same(name: str, found: Any, other: Any) -> None:
    if name == "dense":
        np.testing.assert_allclose(found, other, atol=1e-5)
    elif name == "sparse":
        np.testing.assert_array_equal(found.indices, other.indices)
        np.testing.assert_allclose(found.values, other.values, atol=1e-5)
    else:
        for vectors, others in zip(found, other, strict=True):
            np.testing.assert_allclose(vectors, others, atol=1e-5)
