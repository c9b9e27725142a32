"""`SparseConformance`: what users may expect of a backend that states the kind "sparse"."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import core
from core.architecture.kinds import SPARSE
from core.testing.kinds import KindConformance
from core.testing.subject import TEXTS, UNUSUAL_TEXTS


class SparseConformance(KindConformance[core.SparseEncoder]):
    """Subclass it in a test file, name the backend, and run pytest.

    Attributes:
        backend: The backend's name.
        model: What to load: a small sparse encoder; `core.testing.tiny_sparse()` is one.
        load_arguments: Further arguments of `core.load_sparse`.
        reference: Texts, and the values of their embeddings by dimension as computed elsewhere.
        tolerance: The most by which a value may differ between a text alone and in any batch, and
            from the reference; values that small may be zero in one of them.
        lacks: What the backend cannot do, of `"save"`, `"long_texts"` (it cuts texts where
            `max_seq_length` does not say), `"reference"` (none is given) and `"entry_point"` (it is
            registered in code).
    """

    kind = SPARSE
    reference: ClassVar[Mapping[str, Mapping[int, float]] | None] = None

    @classmethod
    def encode(cls, texts: Sequence[str], **options: Any) -> core.SparseEmbeddings:
        """What the shared model gives."""
        found: core.SparseEmbeddings = cls.shared().encode(list(texts), **options)
        return found

    @classmethod
    def alone(cls, texts: Sequence[str]) -> core.SparseEmbeddings:
        """Each text in a call of its own."""
        return core.SparseEmbeddings.concatenate([cls.encode([text]) for text in texts])

    def assert_close(
        self, found: core.SparseEmbeddings, expected: core.SparseEmbeddings, message: str = ""
    ) -> None:
        """Equal but for the tolerance."""
        assert found.shape == expected.shape, message
        first, second = found.to_dense(), expected.to_dense()
        np.testing.assert_allclose(
            first, second, atol=self.tolerance, rtol=self.tolerance, err_msg=message
        )

    def test_embeddings_are_sparse_rows(self) -> None:
        """As many as texts, as wide as the model says, with a few values each."""
        found = self.encode(TEXTS)
        assert isinstance(found, core.SparseEmbeddings)
        assert found.shape == (len(TEXTS), self.shared().dimension)
        assert np.isfinite(found.values).all()
        assert len(self.shared().encode(TEXTS[0])) == 1
        nothing = self.encode([])
        assert nothing.shape == (0, self.shared().dimension)

    def test_texts_are_told_apart(self) -> None:
        """Other words, other values."""
        found = self.encode(TEXTS[:3]).to_dense()
        assert np.abs(found[0] - found[1]).max() > self.tolerance
        assert np.abs(found[0] - found[2]).max() > self.tolerance

    def test_an_embedding_does_not_depend_on_the_texts_beside_it(self) -> None:
        """Alone, in any order, in batches of any size."""
        alone = self.alone(TEXTS)
        self.assert_close(self.encode(TEXTS), alone, "together")
        turned = np.arange(len(TEXTS))[::-1]
        self.assert_close(self.encode(TEXTS[::-1]), alone[turned], "in the other order")
        for size in (1, 3):
            self.assert_close(self.encode(TEXTS, batch_size=size), alone, f"in batches of {size}")
        twice = self.encode([*TEXTS, *TEXTS])
        assert twice[: len(TEXTS)] == twice[len(TEXTS) :]

    def test_unusual_texts_have_embeddings(self) -> None:
        """Empty, long, and in any script."""
        left_out = {"long"} if self.lacking("long_texts") else set()
        texts = [text for name, text in UNUSUAL_TEXTS.items() if name not in left_out]
        self.assert_close(self.encode(texts), self.alone(texts))

    def test_embeddings_agree_with_the_reference(self) -> None:
        """As computed elsewhere."""
        if self.lacking("reference"):
            return
        assert self.reference, 'give reference = {text: {dimension: value}}, or lacks "reference"'
        rows = [(list(row), list(row.values())) for row in self.reference.values()]
        expected = core.SparseEmbeddings.from_rows(rows, self.shared().dimension)
        self.assert_close(self.encode(list(self.reference)), expected)

    def test_the_largest_values_are_kept(self) -> None:
        """As many as `max_active_dims`."""
        few = self.encode(TEXTS, max_active_dims=2)
        assert np.diff(few.indptr).max() <= 2
        self.assert_close(few, self.encode(TEXTS).top(2))

    def test_many_threads_share_a_model(self) -> None:
        """Each gets the embeddings of its own texts."""
        expected = self.encode(TEXTS)
        found: dict[int, Any] = {}

        def encode(number: int) -> None:
            found[number] = self.encode([*TEXTS[number:], *TEXTS[:number]])

        threads = [threading.Thread(target=encode, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(4):
            order = np.roll(np.arange(len(TEXTS)), -number)
            self.assert_close(found[number], expected[order], f"thread {number}")

    def test_what_is_no_text_is_refused(self) -> None:
        """By core, before the backend sees it; the model works on."""
        for wrong in ([("a", "b")], ["a", None], [5], 5):
            with pytest.raises(core.OptionError):
                self.shared().encode(wrong)  # type: ignore[arg-type]
        assert len(self.encode(TEXTS[:2])) == 2

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
        with self.load(max_active_dims=3) as model:
            expected = model.encode(list(TEXTS))
            with pickle.loads(pickle.dumps(model)) as copy:
                self.assert_close(copy.encode(list(TEXTS)), expected)

    def test_a_saved_model_is_the_same(self, tmp_path: Path) -> None:
        """Its embeddings, and how many values they keep."""
        if self.lacking("save"):
            with pytest.raises(core.UnsupportedOperation):
                self.shared().save(tmp_path / "saved")
            return
        with self.load(max_active_dims=3) as model:
            expected = model.encode(list(TEXTS))
            model.save(tmp_path / "saved")
        given = {"backend": self.backend, **self.load_arguments}
        with core.load_sparse(tmp_path / "saved", **given) as again:
            self.assert_close(again.encode(list(TEXTS)), expected)
