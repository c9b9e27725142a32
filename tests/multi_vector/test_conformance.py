"""The suite for backends that run multi-vector models, on our own backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.testing import MultiVectorConformance, tiny_multi_vector, tiny_multi_vector_reference
from tests.rerankers.conftest import registered


class OfMultiVectorModels(MultiVectorConformance):
    reference = tiny_multi_vector_reference()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _exported(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("conformance") / "multi-vector"
        cls.model = tiny_multi_vector(folder)
        if cls.backend != "torch":
            core.export(folder, backend=cls.backend)


class TestTorch(OfMultiVectorModels):
    backend = "torch"


@pytest.mark.slow
class TestOnnx(OfMultiVectorModels):
    backend = "onnx"


@pytest.mark.slow
class TestOpenVINO(OfMultiVectorModels):
    backend = "openvino"


class _Letters:
    """A vector for each letter, the first of a query's twice: a backend whose models are names."""

    KINDS = ("multi_vector",)
    SOURCE = "name"

    @core.hookimpl
    def load(self, source: Any, options: core.LoadOptions) -> core.Model:
        return core.MultiVectorEncoder(source, runtime=None, dimension=4)

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        return [self.vectors(text, options.task) for text in texts]

    @staticmethod
    def vectors(text: str, task: str | None) -> Any:
        letters = [*(text[:1] if task == "query" else ""), *text]
        numbers = np.array([ord(letter) for letter in letters], dtype=np.float32)
        return np.sin(numbers[:, None] * np.arange(1, 5, dtype=np.float32))


class TestABackendWithoutFiles(MultiVectorConformance):
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
    """Its vectors depend on how many texts there are, and it knows no tasks."""

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        return [self.vectors(text, None) + np.float32(len(texts)) for text in texts]


def test_the_suite_sees_what_is_wrong() -> None:
    class Suite(MultiVectorConformance):
        backend = "forgetful"
        model = "anything"

    with registered("forgetful", _Forgetful()):
        with pytest.raises(AssertionError, match="together"):
            Suite().test_vectors_do_not_depend_on_the_texts_beside_them(None)
        with pytest.raises(AssertionError, match="changes nothing"):
            Suite().test_tasks_make_a_difference()
        Suite().test_what_is_no_text_is_refused()
        Suite.teardown_class()


def test_a_model_is_written_once(tmp_path: Path) -> None:
    assert tiny_multi_vector() == tiny_multi_vector()
    (tmp_path / "file").touch()
    with pytest.raises(core.OptionError, match="is not empty"):
        tiny_multi_vector(tmp_path)
