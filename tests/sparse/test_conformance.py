"""The suite for backends that run sparse encoders, on our own backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
from core.testing import SparseConformance, tiny_sparse, tiny_sparse_reference
from tests.rerankers.conftest import registered


class OfSparseEncoders(SparseConformance):
    reference = tiny_sparse_reference()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _exported(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("conformance") / "sparse"
        cls.model = tiny_sparse(folder)
        if cls.backend != "torch":
            core.export(folder, backend=cls.backend)


class TestTorch(OfSparseEncoders):
    backend = "torch"


@pytest.mark.slow
class TestOnnx(OfSparseEncoders):
    backend = "onnx"


@pytest.mark.slow
class TestOpenVINO(OfSparseEncoders):
    backend = "openvino"


class _Letters:
    """Counts letters: a backend whose models are names."""

    KINDS = ("sparse",)
    SOURCE = "name"

    @core.hookimpl
    def load(self, source: Any, options: core.LoadOptions) -> core.Model:
        return core.SparseEncoder(source, runtime=None, dimension=256)

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        rows = [self.row(text.encode()) for text in texts]
        return core.SparseEmbeddings.from_rows(rows, 256)

    @staticmethod
    def row(letters: bytes) -> tuple[list[int], list[float]]:
        found = sorted(set(letters))
        return found, [float(letters.count(letter)) for letter in found]


class TestABackendWithoutFiles(SparseConformance):
    """What a backend in code needs is two hooks and `KINDS`."""

    backend = "letters"
    model = "anything"
    lacks = ("save", "reference", "entry_point")

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _registered(cls) -> Iterator[None]:
        with registered("letters", _Letters()):
            yield


class _Forgetful(_Letters):
    """Its values depend on how many texts there are."""

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        rows = [(n, [v + len(texts) for v in w]) for n, w in (self.row(t.encode()) for t in texts)]
        return core.SparseEmbeddings.from_rows(rows, 256)


class _Dense(_Letters):
    """It gives arrays, as of embedding models."""

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        return _Letters.encode(self, model, texts, options).to_dense()


def test_the_suite_sees_values_that_depend_on_other_texts() -> None:
    class Suite(SparseConformance):
        backend = "forgetful"
        model = "anything"

    with registered("forgetful", _Forgetful()):
        with pytest.raises(AssertionError, match="together"):
            Suite().test_an_embedding_does_not_depend_on_the_texts_beside_it()
        Suite().test_what_is_no_text_is_refused()
        Suite.teardown_class()


def test_a_backend_that_gives_something_else_is_blamed() -> None:
    with (
        registered("dense", _Dense()),
        core.load_sparse("anything", backend="dense") as model,
        pytest.raises(core.PluginError, match=r"returned ndarray, not core\.SparseEmbeddings"),
    ):
        model.encode(["a"])


def test_a_sparse_encoder_is_written_once(tmp_path: Path) -> None:
    assert tiny_sparse() == tiny_sparse()
    (tmp_path / "file").touch()
    with pytest.raises(core.OptionError, match="is not empty"):
        tiny_sparse(tmp_path)
