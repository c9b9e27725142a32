"""Encoding: order, shapes, unusual input, options, agreement with a reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import core
from core.architecture.modules import pools_prompt
from core.testing.subject import TEXTS, UNUSUAL_TEXTS, Subject

#: On both sides of the sizes of batches that are usual.
_COUNTS = (33, 65, 129, 257, 520, 1_030)
#: What long texts are filled with: much, little or nothing of it may be a token.
_FILLERS = ("word ", " ", "x", "a\n")
#: Tokens of a long text: more would take seconds on a real model.
_LONGEST = 1_100


class EncodingContract(Subject):
    """Texts in, one embedding each out, in their order, whatever is around them."""

    def encode(self, texts: Any, **options: Any) -> Any:
        """With the shared model."""
        return self.shared().encode(texts, **options)

    @pytest.mark.parametrize("count", [0, 1, 2, 33, 150])
    def test_shape_and_dtype(self, count: int) -> None:
        """float32 [texts, dimension], writable, one row a text; also for no texts."""
        texts = [f"{TEXTS[i % len(TEXTS)]} {i}" if i < 40 else f"text {i}" for i in range(count)]
        result = self.encode(texts)
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
        assert result.shape == (count, self.shared().dimension)
        assert result.flags.writeable
        assert np.isfinite(result).all()

    def test_one_text_gives_one_vector(self) -> None:
        """A string gives [dimension], the row it has in a list."""
        vector = self.encode(TEXTS[0])
        assert vector.shape == (self.shared().dimension,)
        self.assert_close(vector, self.encode([TEXTS[0]])[0])

    def test_order_follows_the_input(self) -> None:
        """Permuted texts give permuted rows."""
        texts = [f"{text} {i}" for i, text in enumerate(TEXTS * 3)]
        order = np.random.default_rng(7).permutation(len(texts))
        rows = self.encode(texts)
        self.assert_close(self.encode([texts[i] for i in order]), rows[order])

    def test_many_texts_are_the_rows_of_few(self) -> None:
        """Any number of texts, of mixed lengths, gives the rows they have a few at a time."""
        texts = [" ".join([str(i), *["word"] * (i % 5)]) for i in range(max(_COUNTS))]
        few = [self.encode(texts[start : start + 30]) for start in range(0, len(texts), 30)]
        expected = np.concatenate(few)
        for count in _COUNTS:
            self.assert_close(self.encode(texts[:count]), expected[:count], f"{count} texts")

    def test_rows_do_not_depend_on_batch_mates(self) -> None:
        """A text alone, in a list, and with any batch size has one embedding."""
        together = self.rows()
        for position, text in enumerate(TEXTS):
            self.assert_close(self.encode([text])[0], together[position], f"alone: {text!r}")
        for batch_size in (1, 3, 100):
            self.assert_close(
                self.encode(list(TEXTS), batch_size=batch_size), together, f"{batch_size=}"
            )

    def test_different_texts_differ_and_equal_ones_do_not(self) -> None:
        """Each of these texts has an embedding of its own; repeats share it."""
        rows = self.encode([*TEXTS, *TEXTS])
        half = len(TEXTS)
        self.assert_close(rows[:half], rows[half:])
        for i in range(half):
            for j in range(i):
                assert not np.allclose(rows[i], rows[j], atol=1e-6), (
                    f"{TEXTS[i]!r} and {TEXTS[j]!r} have the same embedding"
                )

    def test_the_same_call_gives_the_same_result(self) -> None:
        """Again, and from newly loaded models."""
        self.assert_close(self.encode(list(TEXTS)), self.rows())
        # Two: the first may draw the random numbers of the shared one, whose load left the
        # generators as they were.
        for _ in range(2):
            with self.load() as again:
                self.assert_close(again.encode(list(TEXTS)), self.rows())

    @pytest.mark.parametrize("kind", UNUSUAL_TEXTS)
    def test_unusual_texts(self, kind: str) -> None:
        """Finite embeddings that do not disturb those of other texts."""
        text = UNUSUAL_TEXTS[kind]
        alone = self.encode([text])
        assert np.isfinite(alone).all()
        rows = self.encode([TEXTS[0], text, TEXTS[1]])
        self.assert_close(rows[[0, 2]], self.rows()[:2])
        self.assert_close(rows[1], alone[0])

    def test_the_end_of_a_long_text_counts(self) -> None:
        """Up to the limit that the model states, in tokens, no text is cut."""
        if self.lacking("long_texts"):
            return  # something behind it cuts them
        for filler in _FILLERS:
            for first, second in self._long_pairs(filler):
                one, other = self.encode([first, second])
                difference = float(np.abs(one - other).max() / (np.abs(one).max() or 1.0))
                assert difference > 1e-7, (
                    f"texts of {len(first):,} characters that differ at their end, after many "
                    f"{filler!r}, have one embedding: the backend cuts them. If it cuts them by "
                    "tokens, state max_seq_length; else declare lacks = {'long_texts'}"
                )

    def _long_pairs(self, filler: str) -> Iterator[tuple[str, str]]:
        """Texts that differ at their end only, where what the model reads of them differs."""
        model = self.shared()
        if not model.has_tokenizer and model.max_seq_length is not None:
            return  # it cuts by tokens, and nobody here can count them
        for length in (20_000, 5_000, 1_500, 400):
            body = "start " + filler * (length // len(filler))
            pair = f"{body} 7", f"{body} 8"
            if not model.has_tokenizer:
                yield pair
                return
            ids = model.tokenize(pair)["input_ids"]
            if ids.shape[1] <= _LONGEST and (ids[0] != ids[1]).any():
                yield pair
                return

    def test_a_limit_that_is_set_is_of_one_model(self) -> None:
        """`max_seq_length` cuts the texts of the model it was set on, and of no other."""
        if not self.shared().has_tokenizer:
            return
        text, longer = TEXTS[1], f"{TEXTS[1]} {TEXTS[0]}"
        full = self.encode([text, longer])
        with self.load() as model:
            model.max_seq_length = int(model.count_tokens([text])[0])
            ids = model.tokenize([text, longer])["input_ids"]
            rows = model.encode([text, longer])
        assert not np.allclose(rows[1], full[1], atol=1e-6), "the limit that was set is ignored"
        if (ids[0] == ids[1]).all():  # it is cut at its end
            self.assert_close(rows[1], rows[0], "cut to the same tokens")
        self.assert_close(self.encode([text, longer]), full, "of the other model")

    def test_results_belong_to_the_caller(self) -> None:
        """Changing a result changes no later one, and no later call changes it."""
        first = self.encode(list(TEXTS))
        kept = first.copy()
        self.encode([text[::-1] for text in TEXTS])
        np.testing.assert_array_equal(first, kept)
        first[:] = 0
        self.assert_close(self.encode(list(TEXTS)), kept)

    def test_inputs_are_not_changed(self) -> None:
        """A list is what it was; other sequences are taken as well."""
        texts, rows = list(TEXTS), self.rows()
        self.assert_close(self.encode(texts), rows)
        assert texts == list(TEXTS)
        self.assert_close(self.encode(tuple(texts)), rows)
        self.assert_close(self.encode(np.array(texts, dtype=object)), rows)

    def test_prompts_go_in_front_of_every_text(self) -> None:
        """Given prompt, then prompt name, then none; an unknown name is an error."""
        model = self.load()
        model.prompts["conformance"] = "query: "
        plain = model.encode(list(TEXTS), prompt="")
        prompted = model.encode(list(TEXTS), prompt="query: ")
        assert not np.allclose(plain, prompted, atol=1e-6), "the prompt changes nothing"
        self.assert_close(model.encode(list(TEXTS), prompt_name="conformance"), prompted)
        runtime = model.runtime
        if not isinstance(runtime, core.Runtime) or pools_prompt(runtime.architecture.modules):
            joined = model.encode(["query: " + text for text in TEXTS], prompt="")
            self.assert_close(prompted, joined, "a prompt is text in front of the text")
        with pytest.raises(core.OptionError, match="no_such_prompt"):
            model.encode(list(TEXTS), prompt_name="no_such_prompt")
        model.close()

    def test_truncation_and_normalization(self) -> None:
        """Leading dimensions, then length 1 if asked for."""
        full = self.rows()
        width = max(1, full.shape[1] // 2)
        self.assert_close(self.encode(list(TEXTS), truncate_dim=width), full[:, :width])
        unit = self.encode(list(TEXTS), truncate_dim=width, normalize_embeddings=True)
        lengths = np.linalg.norm(full[:, :width], axis=1, keepdims=True)
        np.testing.assert_allclose(unit, full[:, :width] / lengths, atol=1e-5)

    def test_a_truncated_model_takes_no_texts(self) -> None:
        """[0, dimension] of what is kept; the hook itself returns every dimension."""
        with self.load() as model:
            full = model.full_dimension
            model.truncate_dim = max(1, full // 2)
            assert model.encode([]).shape == (0, model.truncate_dim)
            assert model.encode([TEXTS[0]]).shape == (1, model.truncate_dim)

    @pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
    def test_precision(self, precision: str) -> None:
        """Fewer bits, computed from the float32 embeddings."""
        texts = [f"{i} {word}" for i in range(45) for word in ("short", "texts", "suffice")]
        found = self.encode(texts, precision=precision)
        full = self.encode(texts)
        expected = core.quantize_embeddings(full, precision)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        # A component next to the edge of a bucket may fall to either side.
        assert np.mean(found == expected) > 0.99

    def test_token_embeddings(self) -> None:
        """One float32 [tokens, hidden] a text, or a proper refusal."""
        texts = list(TEXTS[:3])
        if self.lacking("token_embeddings"):
            with pytest.raises(core.UnsupportedOperation):
                self.encode(texts, output_value="token_embeddings")
            return
        rows = self.encode(texts, output_value="token_embeddings")
        assert isinstance(rows, list)
        assert len(rows) == len(texts)
        assert all(row.dtype == np.float32 and row.ndim == 2 for row in rows)
        assert len({row.shape[1] for row in rows}) == 1
        assert len(rows[2]) > len(rows[1]), "padding is in it, or tokens are missing"
        (alone,) = self.encode([texts[1]], output_value="token_embeddings")
        self.assert_close(rows[1], alone)

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            (["fine", None], "Input 1 is NoneType"),
            (["fine", b"bytes"], "Input 1 is bytes"),
            (["fine", "too", 3], "Input 2 is int"),
            (None, "not NoneType"),
            (7, "not int"),
        ],
    )
    def test_input_that_is_no_text_is_named(self, texts: Any, message: str) -> None:
        """With its position; the model stays usable."""
        with pytest.raises(core.OptionError, match=message):
            self.encode(texts)
        assert np.isfinite(self.encode("fine")).all()

    @pytest.mark.parametrize(
        "options",
        [{"batch_size": 0}, {"precision": "int3"}, {"no_such_option": 1}, {"truncate_dim": -1}],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any]) -> None:
        """Unknown names and impossible values."""
        with pytest.raises(core.OptionError, match=next(iter(options))):
            self.encode("text", **options)

    def test_streams_give_the_same_rows(self) -> None:
        """Any number of texts, a window at a time."""
        texts = list(TEXTS * 2)
        parts = list(self.shared().encode_stream(iter(texts), window=5))
        assert [len(part) for part in parts] == [5, 5, 5, len(texts) - 15]
        self.assert_close(np.concatenate(parts), self.encode(texts))

    def test_agreement_with_the_reference(self) -> None:
        """The cosine to embeddings that were computed elsewhere."""
        if self.lacking("reference"):
            pytest.skip("declared: no reference vectors")
        texts, expected = self._reference()
        found = self.encode(texts).astype(np.float64)
        assert found.shape == expected.shape
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = (found * expected).sum(axis=1) / lengths
        worst = int(cosines.argmin())
        assert cosines[worst] >= self.min_cosine, f"{cosines[worst]:.6f} for {texts[worst]!r}"
        ratio = np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        np.testing.assert_allclose(ratio, 1, atol=0.01, err_msg="lengths differ")

    def _reference(self) -> tuple[list[str], Any]:
        if self.reference is not None:
            texts = list(self.reference)
            return texts, np.array([self.reference[text] for text in texts], dtype=np.float64)
        assert self.reference_backend is not None, (
            "give reference or reference_backend, or declare lacks = {'reference'}"
        )
        texts = [*TEXTS, *UNUSUAL_TEXTS.values()]
        with core.load(self.model, backend=self.reference_backend) as model:
            return texts, model.encode(texts).astype(np.float64)
