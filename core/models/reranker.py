"""`Reranker`: a loaded model that scores pairs of texts, whatever backend runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.kinds import RERANKER
from core.arguments import check_flag
from core.checkpoint.checkpoint import Checkpoint
from core.engine.postprocessing import to_tensor
from core.engine.scores import (
    Activation,
    chosen_activation,
    default_activation,
    finish_scores,
    order_of,
)
from core.errors import OptionError
from core.models.model import Model
from core.options import EncodeOptions, check_positive
from core.texts.inputs import STREAM_WINDOW, check_texts
from core.texts.pairs import check_pairs, is_one_pair
from core.tokenizer.chat import PairTemplate
from core.tokenizer.tokenizer import Tokenizer


class Reranker(Model):
    """Pairs of texts in, scores out.

    `core.load_reranker` returns one; a backend's `load` hook builds one, usually with
    `build_model`.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        labels: A name for each score of a pair.
        tokenizer: For the shared engine; None for backends that take text.
        max_seq_length: In tokens of a pair; None for the tokenizer's.
        device, dtype: None for the runtime's.
        prompts, default_prompt_name: None for none. A prompt goes in front of a pair's first text.
        activation: What is applied to the scores; None for sigmoid with one label, else nothing.
        template: Makes one text of each pair, for models whose chat template does that.
    """

    kind = RERANKER
    noun = "reranker"
    method = "predict"
    other_options = (
        "output_value",
        "outputs",
        "precision",
        "normalize_embeddings",
        "truncate_dim",
        "task",
        "token_pooling",
        "max_active_dims",
    )

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        labels: Sequence[str] = ("LABEL_0",),
        tokenizer: Tokenizer | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        activation: Activation | None = None,
        template: PairTemplate | None = None,
    ) -> None:
        super().__init__(
            source,
            runtime,
            tokenizer=tokenizer,
            max_seq_length=max_seq_length,
            device=device,
            dtype=dtype,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        self._labels = tuple(labels)
        self._activation = activation or default_activation(len(self._labels))
        self._template = template

    def _facts(self) -> str:
        count = len(self._labels)
        return "" if count == 1 else f", {count} labels"

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each score of a pair, by the `id2label` of its config.json."""
        return self._labels

    @property
    def activation_fn(self) -> Activation:
        """What is applied to the scores unless `predict` is told otherwise.

        It can be set to a name (`"Sigmoid"`, `"Identity"`, ...), to a dotted path of torch's, or to
        a function of an array.
        """
        return self._activation

    @activation_fn.setter
    def activation_fn(self, value: Any) -> None:
        self._activation = chosen_activation(value)

    @property
    def activation(self) -> str:
        """The dotted path of `activation_fn`, as configuration files name it."""
        return self._activation.name

    def tokenize(self, pairs: Any) -> dict[str, NDArray[np.int64]]:
        """A padded batch of a pair, or of pairs: `input_ids`, `attention_mask`, `token_type_ids`.

        Each is int64 [pairs, tokens], padded on the tokenizer's side. Prompts are not added.
        """
        rows = self.checked([pairs] if is_one_pair(pairs) else pairs)
        return self._token_batch(self.with_prompt(rows, ""))

    def count_tokens(self, pairs: Any) -> NDArray[np.int64]:
        """How many tokens each pair has, special ones included and nothing cut: int64 [pairs].

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        rows = self.checked([pairs] if is_one_pair(pairs) else pairs)
        return self.tokenizer.count(self.with_prompt(rows, ""))

    def predict(self, pairs: Any, **options: Any) -> Any:
        """Score pairs of texts, in their order.

        Args:
            pairs: One pair of texts, or a sequence of pairs.
            activation_fn: Applied to the scores instead of `model.activation_fn`: a name, a dotted
                path of torch's, or a function of an array float32 [n, labels].
            apply_softmax: With several labels, scores of each pair that add up to 1.
            convert_to_tensor: Return a `torch.Tensor`.
            prompt_name: Which of `model.prompts` to put in front of every pair.
            prompt: A prompt to use instead; `""` for none.
            batch_size: The most pairs in one batch.
            batch_tokens: The most tokens in one batch, padding included.
            workers: How many batches run at once.
            show_progress_bar: None shows it when logging is at INFO or below.
            truncation: Of pairs with more tokens than `max_seq_length`: `"cut"` scores what fits,
                as does None; `"warn"` also logs which they are; `"error"` refuses them.

        Returns:
            float32 [n], or [n, labels] with several labels; for a single pair a number, or
            [labels]. Equal pairs have equal scores.

        Raises:
            OptionError: An unknown option, or an input that is not a pair of strings; the message
                names it.
            PluginError: The backend failed.
        """
        single = is_one_pair(pairs)
        result = self._run([pairs] if single else pairs, self.parse_options(options))
        return result[0] if single else result

    def predict_stream(
        self, pairs: Iterable[Any], *, window: int = STREAM_WINDOW, **options: Any
    ) -> Iterator[Any]:
        """Score any number of pairs in bounded memory.

        Takes up to `window` pairs at a time from the iterable, and yields one array for each such
        group, in order. The other arguments are `predict`'s.
        """
        return self._stream(pairs, window, options)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Documents by how well they answer a query.

        Args:
            query: One text.
            documents: The texts to order.
            top_k: How many of them to return; None for all.
            return_documents: Whether to return the texts, too.
            **options: `predict`'s.

        Returns:
            `{"corpus_id": position, "score": number}` for each document, and its `"text"` on
            request, best first; equal scores in the documents' order.

        Raises:
            OptionError: The model has several labels, or an input is not a string.
        """
        return self.rank_by(self.predict, query, documents, top_k, return_documents, options)

    def rank_by(
        self,
        predict: Callable[..., Any],
        query: str,
        documents: Sequence[str],
        top_k: int | None,
        return_documents: bool,
        options: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """`rank`, the pairs scored elsewhere.

        Args:
            predict: As `predict`: that of a `core.ProcessPool` of this model, say.
            options: `predict`'s.
        """
        if len(self._labels) != 1:
            raise OptionError(
                f"rank orders documents by one score, and {self!r} gives {len(self._labels)} for a "
                f"pair ({', '.join(self._labels)}). Call predict with the pairs and choose one of "
                "them."
            )
        if not isinstance(query, str):
            raise OptionError(
                f"rank takes one query, a string, not {type(query).__name__}. For several queries, "
                "call it once for each."
            )
        if isinstance(documents, str):
            raise OptionError("rank takes a sequence of documents, not one string: [document].")
        top_k = check_positive("top_k", top_k)
        check_flag("return_documents", return_documents)
        texts = check_texts(documents, takes="rank takes a sequence of documents")
        scores = predict([(query, text) for text in texts], **options)
        ranked = []
        for position in order_of(np.asarray(_plain(scores)), top_k):
            entry = {"corpus_id": position, "score": float(scores[position])}
            ranked.append(entry | ({"text": texts[position]} if return_documents else {}))
        return ranked

    def state(self) -> dict[str, Any]:
        return {**super().state(), "activation_fn": self._activation.origin}

    # What the operations ask of it

    def check_options(self, options: EncodeOptions) -> None:
        super().check_options(options)
        if options.activation_fn is not None:
            chosen_activation(options.activation_fn)

    def checked(self, inputs: Any, start: int = 0) -> Sequence[tuple[str, str]]:
        return check_pairs(inputs, start)

    def with_prompt(self, rows: Sequence[Any], prompt: str) -> Sequence[Any]:
        if self._template is not None:
            return [self._template.render(query, document, prompt) for query, document in rows]
        return [(prompt + query, document) for query, document in rows] if prompt else rows

    def as_inputs(self, texts: Sequence[Any]) -> Sequence[Any]:
        # Of texts that are no pairs, each is scored with the next.
        following = [*texts[1:], *texts[:1]]
        return [
            text if isinstance(text, tuple) else (text, other)
            for text, other in zip(texts, following, strict=True)
        ]

    def read_calibration(self, calibration: Any, given: dict[str, Any]) -> Sequence[Any]:
        """The pairs that `quantize` is given; or texts, of which pairs are made."""
        if isinstance(calibration, Iterator):
            calibration = list(calibration)
        pairs = isinstance(calibration, list | tuple) and not isinstance(
            next(iter(calibration), ""), str
        )
        return check_pairs(calibration) if pairs else super().read_calibration(calibration, given)

    def finish(self, raw: Any, options: EncodeOptions) -> Any:
        given = options.activation_fn
        activation = self._activation if given is None else chosen_activation(given)
        scores = finish_scores(raw, activation, apply_softmax=options.apply_softmax)
        return to_tensor(scores, self.tensor_device) if options.convert_to_tensor else scores


def _plain(scores: Any) -> Any:
    """A numpy array of scores that may be a tensor."""
    return scores.cpu().numpy() if hasattr(scores, "cpu") else scores
