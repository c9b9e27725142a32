"""`RerankerConformance`: what users may expect of a backend that states the kind "reranker"."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import core
from core.architecture.kinds import RERANKER
from core.testing.kinds import KindConformance
from core.testing.subject import TEXTS, UNUSUAL_TEXTS

#: Each text as a query and as a document, of like and of unlike length.
PAIRS = (
    *((TEXTS[0], text) for text in TEXTS),
    *((text, TEXTS[1]) for text in TEXTS[2:]),
)


class RerankerConformance(KindConformance[core.Reranker]):
    """Subclass it in a test file, name the backend, and run pytest.

    Attributes:
        backend: The backend's name.
        model: What to load: a small reranker with one label; `core.testing.tiny_reranker()` is one.
        load_arguments: Further arguments of `core.load_reranker`.
        reference: Pairs and their scores as computed elsewhere, before the activation function.
        tolerance: The most by which a score may differ between a pair alone and in any batch, and
            from the reference.
        lacks: What the backend cannot do, of `"save"`, `"long_texts"` (it cuts texts where
            `max_seq_length` does not say), `"reference"` (none is given) and `"entry_point"` (it is
            registered in code).
    """

    kind = RERANKER
    reference: ClassVar[Mapping[tuple[str, str], float] | None] = None

    @classmethod
    def raw(cls, pairs: Sequence[tuple[str, str]], **options: Any) -> Any:
        """Scores of the shared model before any activation function."""
        return cls.shared().predict(list(pairs), activation_fn="Identity", **options)

    def assert_close(self, found: Any, expected: Any, message: str = "") -> None:
        """Equal but for the tolerance."""
        np.testing.assert_allclose(found, expected, atol=self.tolerance, rtol=0, err_msg=message)

    def test_scores_are_numbers_of_the_right_shape(self) -> None:
        """float32 [pairs], finite, and not all the same."""
        scores = self.raw(PAIRS)
        assert scores.shape == (len(PAIRS),)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert len(np.unique(np.round(scores, 4))) > 1, "every pair has the same score"
        assert self.shared().predict([]).shape == (0,)

    def test_a_score_does_not_depend_on_the_pairs_beside_it(self) -> None:
        """Alone, in batches of any size, in any order, and twice."""
        alone = [self.raw([pair])[0] for pair in PAIRS]
        self.assert_close(self.raw(PAIRS), alone, "together")
        self.assert_close(self.raw(PAIRS[::-1]), alone[::-1], "in the other order")
        for size in (1, 3):
            self.assert_close(self.raw(PAIRS, batch_size=size), alone, f"in batches of {size}")
        twice = self.raw([*PAIRS, *PAIRS])
        np.testing.assert_array_equal(twice[: len(PAIRS)], twice[len(PAIRS) :])

    def test_both_texts_count_and_so_does_their_order(self) -> None:
        """A query is not a document."""
        query, document = TEXTS[0], TEXTS[2]
        scores = self.raw([(query, document), (query, TEXTS[4]), (TEXTS[4], document)])
        assert len(np.unique(np.round(scores, 5))) == 3
        turned = self.raw([(query, document), (document, query)])
        assert abs(turned[0] - turned[1]) > 1e-6, "the texts of a pair can be exchanged"

    def test_unusual_pairs_have_scores(self) -> None:
        """Empty, long, and in any script."""
        left_out = {"long"} if self.lacking("long_texts") else set()
        texts = [text for name, text in UNUSUAL_TEXTS.items() if name not in left_out]
        pairs = [*((TEXTS[0], text) for text in texts), *((text, TEXTS[0]) for text in texts)]
        scores = self.raw(pairs)
        assert np.isfinite(scores).all()
        self.assert_close(scores, [self.raw([pair])[0] for pair in pairs])

    def test_scores_agree_with_the_reference(self) -> None:
        """As computed elsewhere."""
        if self.lacking("reference"):
            return
        assert self.reference, 'give reference = {(query, document): score}, or lacks "reference"'
        self.assert_close(self.raw(list(self.reference)), list(self.reference.values()))

    def test_ranking_is_by_score(self) -> None:
        """Best first, with the positions of the documents."""
        ranked = self.shared().rank(TEXTS[0], list(TEXTS))
        scores = self.shared().predict([(TEXTS[0], text) for text in TEXTS])
        found = [entry["score"] for entry in ranked]
        assert found == sorted(found, reverse=True)
        self.assert_close(found, [scores[entry["corpus_id"]] for entry in ranked])

    def test_many_threads_share_a_model(self) -> None:
        """Each gets the scores of its own pairs."""
        expected = self.raw(PAIRS)
        found: dict[int, Any] = {}

        def score(number: int) -> None:
            found[number] = self.raw(PAIRS[number:] + PAIRS[:number])

        threads = [threading.Thread(target=score, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(6):
            self.assert_close(found[number], np.roll(expected, -number), f"thread {number}")

    def test_what_is_no_pair_is_refused(self) -> None:
        """By core, before the backend sees it; the model works on."""
        for wrong in ("a text", [("a",)], [("a", "b", "c")], [("a", None)], [5]):
            with pytest.raises(core.OptionError):
                self.shared().predict(wrong)
        assert np.isfinite(self.raw(PAIRS[:2])).all()

    def test_a_closed_model_says_so(self) -> None:
        """Instead of failing inside the runtime."""
        model = self.load()
        model.close()
        with pytest.raises(core.CoreError, match="closed"):
            model.predict(PAIRS[0])

    def test_a_model_survives_pickling(self) -> None:
        """With what was changed after loading."""
        if self.lacking("entry_point"):
            return
        with self.load(activation_fn="Tanh") as model:
            expected = model.predict(list(PAIRS))
            with pickle.loads(pickle.dumps(model)) as copy:
                self.assert_close(copy.predict(list(PAIRS)), expected)

    def test_a_saved_model_is_the_same(self, tmp_path: Path) -> None:
        """Its scores, its activation function and its length."""
        if self.lacking("save"):
            with pytest.raises(core.UnsupportedOperation):
                self.shared().save(tmp_path / "saved")
            return
        with self.load(activation_fn="Tanh") as model:
            expected = model.predict(list(PAIRS))
            model.save(tmp_path / "saved")
        given = {"backend": self.backend, **self.load_arguments}
        with core.load_reranker(tmp_path / "saved", **given) as again:
            self.assert_close(again.predict(list(PAIRS)), expected)
