"""`SparseEncoder`: a loaded model that gives texts sparse embeddings, whatever backend runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import SIMILARITIES
from core.architecture.kinds import SPARSE
from core.architecture.routes import Routes
from core.checkpoint.checkpoint import Checkpoint
from core.engine.lookup import WordWeights
from core.engine.runtime import Runtime
from core.engine.sparse import SparseEmbeddings
from core.engine.sparse_similarity import sparse_similarity, sparse_similarity_pairwise
from core.errors import OptionError, UnsupportedOperation
from core.models.model import Model
from core.options import EncodeOptions, check_positive
from core.texts.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, STREAM_WINDOW, check_texts
from core.tokenizer.tokenizer import Tokenizer


class SparseEncoder(Model):
    """Texts in, sparse embeddings out: a weight for each of a few words of a vocabulary.

    `core.load_sparse` returns one; a backend's `load` hook builds one, usually with `build_model`.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        dimension: Width of the embeddings; None for the runtime's.
        tokenizer: For the shared engine; None for backends that take text.
        max_seq_length: In tokens; None for the tokenizer's.
        device, dtype: None for the runtime's.
        prompts, default_prompt_name: None for none.
        similarity_fn_name: None for `"dot"`.
        max_active_dims: The most values of an embedding; None for all.
        routes: Which texts are looked up instead of computed; None for none.
        lookups: What looks them up, by the folder that `routes` names.
        names_words: Whether the dimensions are the tokenizer's vocabulary.
    """

    kind = SPARSE
    noun = "sparse encoder"
    other_options = (
        "output_value",
        "outputs",
        "precision",
        "normalize_embeddings",
        "truncate_dim",
        "activation_fn",
        "apply_softmax",
        "token_pooling",
    )

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        dimension: int | None = None,
        tokenizer: Tokenizer | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        max_active_dims: int | None = None,
        routes: Routes | None = None,
        lookups: Mapping[str, WordWeights] | None = None,
        names_words: bool = True,
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
        self._dimension = dimension
        self._similarity = similarity_fn_name or "dot"
        self._max_active_dims = max_active_dims
        self._routes, self._lookups = routes, dict(lookups or {})
        self._names_words = names_words

    def _facts(self) -> str:
        return f", dimension {self.dimension}"

    # What it is

    @property
    def dimension(self) -> int:
        """Width of the embeddings: of SPLADE the size of the vocabulary."""
        if self._dimension is None:
            known = getattr(self.runtime, "dimension", None)
            if known is None and isinstance(self.runtime, Runtime):
                known = self.runtime.architecture.dimension
            self._dimension = int(known or 0)
        return self._dimension

    @property
    def max_active_dims(self) -> int | None:
        """The most values of an embedding, the largest; None for all. It can be set."""
        return self._max_active_dims

    @max_active_dims.setter
    def max_active_dims(self, value: int | None) -> None:
        self._max_active_dims = check_positive("max_active_dims", value)

    @property
    def similarity_fn_name(self) -> str:
        """`"dot"`, `"cosine"`, `"euclidean"` or `"manhattan"`. It can be set."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        if not isinstance(value, str) or value not in SIMILARITIES:
            raise OptionError(
                f"similarity_fn_name must be one of {', '.join(SIMILARITIES)}, not {value!r}."
            )
        self._similarity = value

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that `task` may have where the model tells them apart; empty where it does not."""
        if self._routes is None:
            return ()
        return tuple(sorted({*self._routes.folders, *(t for t in self._routes.tasks if t)}))

    def lookup(self, task: str | None) -> WordWeights | None:
        """What looks up the texts of a task; None where the transformer computes them.

        Raises:
            OptionError: The model tells tasks apart, and has none of that name.
        """
        folder = None if self._routes is None else self._routes.folder(task)
        return None if folder is None else self._lookups[folder]

    def cutting_tokenizer(self, options: EncodeOptions) -> Tokenizer:
        looked_up = self.lookup(options.task)
        return self.tokenizer if looked_up is None else looked_up.tokenizer

    def tokenize(self, texts: str | Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """A padded batch of the texts: `input_ids`, `attention_mask`, `token_type_ids`.

        Each is int64 [texts, tokens], as the transformer takes them. Prompts are not added.
        """
        return self._token_batch(check_texts([texts] if isinstance(texts, str) else texts))

    def count_tokens(self, texts: str | Sequence[str]) -> NDArray[np.int64]:
        """How many tokens each text has, special ones included and nothing cut: int64 [texts].

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        return self.tokenizer.count(check_texts([texts] if isinstance(texts, str) else texts))

    # Encoding

    def encode(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Embed texts, in their order.

        Args:
            texts: One text or a sequence of them.
            max_active_dims: The most values of each embedding, the largest; None for the model's
                own number.
            task: `"query"` or `"document"`, for models that treat them differently.
            convert_to_tensor: Return a sparse COO `torch.Tensor`.
            prompt_name: Which of `model.prompts` to put in front of every text.
            prompt: A prompt to use instead; `""` for none.
            batch_size: The most texts in one batch.
            batch_tokens: The most tokens in one batch, padding included.
            workers: How many batches run at once.
            show_progress_bar: None shows it when logging is at INFO or below.
            truncation: Of texts with more tokens than `max_seq_length`: `"cut"` embeds what fits,
                as does None; `"warn"` also logs which they are; `"error"` refuses them.

        Returns:
            `SparseEmbeddings` [len(texts), dimension], float32; for a single text of one row. Equal
            texts have equal rows.

        Raises:
            OptionError: An unknown option, or an input that is not a string; the message names it.
            PluginError: The backend failed.
        """
        single = isinstance(texts, str)
        result = self._run([texts] if single else texts, self.parse_options(options))
        return result[0] if single else result

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `query`, if the model has one and none is given, and for
        the task `"query"`."""
        return self.encode(texts, **self._for_task("query", options, QUERY_PROMPTS))

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `document`, `passage` or `corpus`, the first there is, and
        for the task `"document"`."""
        return self.encode(texts, **self._for_task("document", options, DOCUMENT_PROMPTS))

    def _for_task(
        self, task: str, options: Mapping[str, Any], prompts: Sequence[str]
    ) -> dict[str, Any]:
        return {**self._with_prompt_of(options, prompts), "task": options.get("task") or task}

    def encode_stream(
        self, texts: Iterable[str], *, window: int = STREAM_WINDOW, **options: Any
    ) -> Iterator[Any]:
        """Embed any number of texts in bounded memory.

        Takes up to `window` texts at a time from the iterable, fewer where they are very long,
        and yields `SparseEmbeddings` for each such group, in order. The other arguments are
        `encode`'s.
        """
        return self._stream(texts, window, options)

    def decode(self, embeddings: SparseEmbeddings, top_k: int | None = None) -> Any:
        """The words of embeddings and their weights, the largest first.

        Args:
            embeddings: Of this model.
            top_k: At most this many words of each; None for all.

        Returns:
            For each embedding a list of (token, weight).

        Raises:
            OptionError: They are not this model's.
            UnsupportedOperation: Its dimensions are no words: a sparse autoencoder has learned what
                they mean. `embeddings.ranked(top_k)` has their numbers.
        """
        if not isinstance(embeddings, SparseEmbeddings):
            raise OptionError(
                f"decode takes core.SparseEmbeddings, not {type(embeddings).__name__}. "
                "SparseEmbeddings.from_scipy, from_torch and from_dense make them."
            )
        if embeddings.shape[1] != self.dimension:
            raise OptionError(
                f"decode was given embeddings of {embeddings.shape[1]} dimensions, and the model's "
                f"have {self.dimension}."
            )
        if not self._names_words:
            raise UnsupportedOperation(
                f"The {self.dimension} dimensions of {self!r} are not words: a sparse autoencoder "
                "has learned what they mean. embeddings.ranked(top_k) has their numbers."
            )
        word = self.tokenizer.backend.id_to_token
        return [
            [(word(number) or f"[{number}]", weight) for number, weight in row]
            for row in embeddings.ranked(top_k)
        ]

    def similarity(self, a: SparseEmbeddings, b: SparseEmbeddings) -> NDArray[np.float32]:
        """Every row of `a` against every row of `b`: float32 [len(a), len(b)]."""
        return sparse_similarity(_sparse("a", a), _sparse("b", b), self._similarity)

    def similarity_pairwise(self, a: SparseEmbeddings, b: SparseEmbeddings) -> NDArray[np.float32]:
        """Each row of `a` against the same row of `b`: float32 [len(a)]."""
        return sparse_similarity_pairwise(_sparse("a", a), _sparse("b", b), self._similarity)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "similarity_fn_name": self.similarity_fn_name,
            "max_active_dims": self.max_active_dims,
        }

    # What the operations ask of it

    def check_options(self, options: EncodeOptions) -> None:
        super().check_options(options)
        self.lookup(options.task)

    def prepare(self, inputs: Any, options: EncodeOptions) -> tuple[Sequence[Any], EncodeOptions]:
        rows, options = super().prepare(inputs, options)
        most = options.max_active_dims or self._max_active_dims
        return rows, replace(options, max_active_dims=most)

    def checked(self, inputs: Any, start: int = 0) -> Sequence[str]:
        if isinstance(inputs, str):
            raise OptionError("encode takes a sequence of texts here, not one string.")
        return check_texts(inputs, start)

    def finish(self, raw: Any, options: EncodeOptions) -> Any:
        rows: SparseEmbeddings = raw.top(options.max_active_dims or self._max_active_dims)
        return rows.to_torch(self.tensor_device) if options.convert_to_tensor else rows

    def note_result(self, raw: Any, options: EncodeOptions) -> None:
        if not self._dimension:
            self._dimension = int(raw.shape[1])

    def join(self, blocks: Sequence[Any]) -> Any:
        return SparseEmbeddings.concatenate(blocks)

    def spread(self, unique: Any, count: int, firsts: Any, duplicates: Any, originals: Any) -> Any:
        place = np.empty(count, dtype=np.int64)
        place[firsts] = np.arange(len(firsts))
        place[duplicates] = place[originals]
        return unique[place]


def _sparse(name: str, value: Any) -> SparseEmbeddings:
    if isinstance(value, SparseEmbeddings):
        return value
    raise OptionError(
        f"{name} must be core.SparseEmbeddings, not {type(value).__name__}. "
        "SparseEmbeddings.from_scipy, from_torch and from_dense make them."
    )
