"""The suite for backends that run rerankers, on our own backends."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.testing import RerankerConformance, tiny_reranker, tiny_reranker_reference
from tests.rerankers.conftest import registered


class OfRerankers(RerankerConformance):
    reference = tiny_reranker_reference()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _exported(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("conformance") / "reranker"
        cls.model = tiny_reranker(folder)
        if cls.backend != "torch":
            core.export(folder, backend=cls.backend)


class TestTorch(OfRerankers):
    backend = "torch"


@pytest.mark.slow
class TestOnnx(OfRerankers):
    backend = "onnx"


@pytest.mark.slow
class TestOpenVINO(OfRerankers):
    backend = "openvino"


class _Words:
    """Scores a pair by the words its texts share: a backend whose models are names."""

    KINDS: tuple[str, ...] = ("reranker",)
    SOURCE = "name"

    @core.hookimpl
    def load(self, source: Any, options: core.LoadOptions) -> core.Model:
        return core.Reranker(source, runtime=None)

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        scores = [self.score(query.split(), document.split()) for query, document in texts]
        return np.array(scores, dtype=np.float32).reshape(-1, 1)

    @staticmethod
    def score(query: list[str], document: list[str]) -> float:
        shared = len(set(query) & set(document))
        return shared - 0.1 * len(query) + 0.01 * len(document)


class TestABackendWithoutFiles(RerankerConformance):
    """What a backend in code needs is two hooks and `KINDS`."""

    backend = "shared-words"
    model = "anything"
    lacks = ("save", "reference", "entry_point")

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _registered(cls) -> Iterator[None]:
        with registered("shared-words", _Words()):
            yield


class _Several(_Words):
    """Gives what it is asked for: `source.kind` says it."""

    KINDS = ("embedding", "reranker")

    @core.hookimpl
    def load(self, source: Any, options: core.LoadOptions) -> core.Model:
        if source.kind == "reranker":
            return core.Reranker(source, runtime=None)
        return core.EmbeddingModel(source, runtime=None, dimension=1)


def test_a_pickled_model_of_a_backend_of_several_kinds_stays_of_its_kind() -> None:
    with registered("several", _Several()):
        model = core.load_reranker("anything", backend="several")
        again = pickle.loads(pickle.dumps(model))
        assert again.predict(("a b", "b c")) == model.predict(("a b", "b c"))
        assert pickle.loads(pickle.dumps(core.load("anything", backend="several"))).dimension == 1


class _Forgetful(_Words):
    """Its scores depend on how many pairs there are."""

    @core.hookimpl
    def encode(self, model: Any, texts: Any, options: core.EncodeOptions) -> Any:
        scores = _Words.encode(self, model, texts, options)
        return np.asarray(scores + np.float32(len(texts)), dtype=np.float32)


def test_the_suite_sees_a_score_that_depends_on_other_pairs() -> None:
    class Suite(RerankerConformance):
        backend = "forgetful"
        model = "anything"

    with registered("forgetful", _Forgetful()):
        with pytest.raises(AssertionError, match="together"):
            Suite().test_a_score_does_not_depend_on_the_pairs_beside_it()
        Suite().test_what_is_no_pair_is_refused()
        Suite.teardown_class()


def test_a_reranker_is_written_once(tmp_path: Path) -> None:
    assert tiny_reranker() == tiny_reranker()
    (tmp_path / "file").touch()
    with pytest.raises(core.OptionError, match="is not empty"):
        tiny_reranker(tmp_path)
