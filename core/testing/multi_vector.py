"""`MultiVectorConformance`: what users may expect of a backend that states the kind
"multi_vector"."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import core
from core.testing.subject import TEXTS, UNUSUAL_TEXTS

LACKS = ("save", "reference", "entry_point", "long_texts")

TASKS = ("query", "document")


class MultiVectorConformance:
    """Subclass it in a test file, name the backend, and run pytest.

    Attributes:
        backend: The backend's name.
        model: What to load: a small multi-vector model, which treats queries and documents
            differently; `core.testing.tiny_multi_vector()` is one.
        load_arguments: Further arguments of `core.load_multi_vector`.
        reference: (`"query"` or `"document"`, a text) to its vectors [tokens, dimension], as
            computed elsewhere.
        tolerance: The most by which a component of a vector may differ between a text alone and in
            any batch, and from the reference.
        lacks: What the backend cannot do, of `"save"`, `"long_texts"` (it cuts texts where
            `max_seq_length` does not say), `"reference"` (none is given) and `"entry_point"` (it is
            registered in code).
    """

    backend: ClassVar[str]
    model: ClassVar[str | os.PathLike[str]]
    load_arguments: ClassVar[Mapping[str, Any]] = {}
    reference: ClassVar[Mapping[tuple[str, str], Any] | None] = None
    tolerance: ClassVar[float] = 1e-4
    lacks: ClassVar[Collection[str]] = ()

    _loaded: ClassVar[core.MultiVectorEncoder | None] = None

    @classmethod
    def load(cls, **arguments: Any) -> core.MultiVectorEncoder:
        """A model of its own for a test that changes or closes it."""
        given = {"backend": cls.backend, **cls.load_arguments, **arguments}
        return core.load_multi_vector(cls.model, **given)

    @classmethod
    def shared(cls) -> core.MultiVectorEncoder:
        """A model for all tests of the class: not to be changed or closed."""
        if cls._loaded is None:
            cls._loaded = cls.load()
        return cls._loaded

    @classmethod
    def teardown_class(cls) -> None:
        """Close the shared model."""
        if cls._loaded is not None:
            cls._loaded.close()
        cls._loaded = None

    def assert_close(
        self, found: Sequence[Any], expected: Sequence[Any], message: str = ""
    ) -> None:
        """As many vectors of each text, equal but for the tolerance."""
        assert [one.shape for one in found] == [np.shape(one) for one in expected], message
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=self.tolerance, rtol=0, err_msg=message)

    @classmethod
    def lacking(cls, what: str) -> bool:
        """Whether the subclass declares that the backend cannot do `what`."""
        unknown = sorted(set(cls.lacks) - set(LACKS))
        assert not unknown, f"lacks names {unknown}; it may name {', '.join(LACKS)}"
        return what in cls.lacks

    def test_it_states_the_kind(self) -> None:
        """`KINDS` names multi-vector models, so that other backends' users are sent here."""
        assert "multi_vector" in core.hooks(self.backend).capabilities.kinds

    @pytest.mark.parametrize("task", [None, *TASKS])
    def test_every_text_has_vectors(self, task: str | None) -> None:
        """A list of float32 [tokens, dimension], finite, writable, and not all the same."""
        vectors = self.shared().encode(list(TEXTS), task=task)
        assert isinstance(vectors, list)
        assert len(vectors) == len(TEXTS)
        assert all(one.dtype == np.float32 and one.flags.writeable for one in vectors)
        assert {one.shape[1] for one in vectors} == {self.shared().dimension}
        assert all(np.isfinite(one).all() for one in vectors)
        rows = np.concatenate(vectors)
        assert len(np.unique(np.round(rows, 4), axis=0)) > 1, "every vector is the same"
        assert self.shared().encode([], task=task) == []

    @pytest.mark.parametrize("task", [None, *TASKS])
    def test_vectors_do_not_depend_on_the_texts_beside_them(self, task: str | None) -> None:
        """Alone, in batches of any size, in any order, and twice."""
        alone = [self.shared().encode(text, task=task) for text in TEXTS]
        for size in (None, 1, 3):
            found = self.shared().encode(list(TEXTS), task=task, batch_size=size)
            self.assert_close(found, alone, f"together, batch_size={size}")
        turned = self.shared().encode(list(TEXTS[::-1]), task=task)
        self.assert_close(turned, alone[::-1], "in the other order")
        twice = self.shared().encode([*TEXTS, *TEXTS], task=task)
        self.assert_close(twice, [*alone, *alone], "twice")
        twice[0][:] = 0
        self.assert_close(twice[len(TEXTS) :], alone, "a repeat is a result of its own")

    def test_tasks_make_a_difference(self) -> None:
        """A query is not a document, where the model tells them apart."""
        model = self.shared()
        queries, documents = model.encode_query(list(TEXTS)), model.encode_document(list(TEXTS))
        same = [
            one.shape == other.shape and np.allclose(one, other, atol=self.tolerance)
            for one, other in zip(queries, documents, strict=True)
        ]
        assert not all(same), "options.task changes nothing"
        self.assert_close(model.encode(list(TEXTS), task="query"), queries)

    def test_unusual_texts_have_vectors(self) -> None:
        """Empty, long, and in any script."""
        left_out = {"long"} if self.lacking("long_texts") else set()
        texts = [text for name, text in UNUSUAL_TEXTS.items() if name not in left_out]
        for task in TASKS:
            vectors = self.shared().encode(texts, task=task)
            assert all(np.isfinite(one).all() for one in vectors)
            self.assert_close(vectors, [self.shared().encode(text, task=task) for text in texts])

    def test_vectors_agree_with_the_reference(self) -> None:
        """As computed elsewhere."""
        if self.lacking("reference"):
            return
        assert self.reference, 'give reference = {(task, text): vectors}, or lacks "reference"'
        for task in TASKS:
            given = {text: v for (of, text), v in self.reference.items() if of == task}
            found = self.shared().encode(list(given), task=task)
            self.assert_close(found, list(given.values()), task)

    def test_similarity_is_that_of_the_vectors(self) -> None:
        """MaxSim: of each vector of a query the largest product, and their sum."""
        model = self.shared()
        queries, documents = model.encode_query(list(TEXTS)), model.encode_document(list(TEXTS))
        scores = model.similarity(queries, documents)
        assert scores.shape == (len(TEXTS), len(TEXTS))
        expected = (queries[0] @ documents[1].T).max(axis=1).sum()
        np.testing.assert_allclose(scores[0, 1], expected, rtol=1e-4)

    def test_streams_give_the_same_vectors(self) -> None:
        """Any number of texts, a window at a time."""
        blocks = list(self.shared().encode_stream(iter(TEXTS), window=4, task="document"))
        assert [len(block) for block in blocks[:-1]] == [4] * (len(blocks) - 1)
        found = [one for block in blocks for one in block]
        self.assert_close(found, self.shared().encode_document(list(TEXTS)))

    def test_many_threads_share_a_model(self) -> None:
        """Each gets the vectors of its own texts."""
        expected = self.shared().encode_document(list(TEXTS))
        found: dict[int, Any] = {}

        def encode(number: int) -> None:
            texts = [*TEXTS[number:], *TEXTS[:number]]
            found[number] = self.shared().encode_document(texts)

        threads = [threading.Thread(target=encode, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(6):
            rolled = [*expected[number:], *expected[:number]]
            self.assert_close(found[number], rolled, f"thread {number}")

    def test_what_is_no_text_is_refused(self) -> None:
        """By core, before the backend sees it; the model works on."""
        wrongs: tuple[Any, ...] = ([("a", "b")], ["a", None], [5], 5)
        for wrong in wrongs:
            with pytest.raises(core.OptionError):
                self.shared().encode(wrong)
        assert len(self.shared().encode(list(TEXTS[:2]))) == 2

    def test_a_closed_model_says_so(self) -> None:
        """Instead of failing inside the runtime."""
        model = self.load()
        model.close()
        with pytest.raises(core.CoreError, match="closed"):
            model.encode(TEXTS[0])

    def test_a_model_survives_pickling(self) -> None:
        """With what was changed after loading."""
        if self.lacking("entry_point"):
            return
        with self.load(similarity_fn_name="meanmaxsim") as model:
            expected = model.encode_query(list(TEXTS))
            with pickle.loads(pickle.dumps(model)) as copy:
                assert copy.similarity_fn_name == "meanmaxsim"
                self.assert_close(copy.encode_query(list(TEXTS)), expected)

    def test_a_saved_model_is_the_same(self, tmp_path: Path) -> None:
        """Its vectors, and how they are compared."""
        if self.lacking("save"):
            with pytest.raises(core.UnsupportedOperation):
                self.shared().save(tmp_path / "saved")
            return
        with self.load(similarity_fn_name="meanmaxsim") as model:
            expected = [model.encode_query(list(TEXTS)), model.encode_document(list(TEXTS))]
            model.save(tmp_path / "saved")
        given = {"backend": self.backend, **self.load_arguments}
        with core.load_multi_vector(tmp_path / "saved", **given) as again:
            assert again.similarity_fn_name == "meanmaxsim"
            self.assert_close(again.encode_query(list(TEXTS)), expected[0])
            self.assert_close(again.encode_document(list(TEXTS)), expected[1])
