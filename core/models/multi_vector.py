"""`MultiVectorEncoder`: a loaded model with a vector for every token, whatever backend runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.kinds import MULTI_VECTOR
from core.architecture.late_interaction import (
    MAXSIM_FUNCTIONS,
    LateInteraction,
    QueryExpansion,
    TokenPooling,
)
from core.architecture.modules import unit_length
from core.checkpoint.checkpoint import Checkpoint
from core.engine.maxsim import maxsim, maxsim_pairwise
from core.engine.postprocessing import to_tensor
from core.engine.token_pooling import chosen_pooling, pool_tokens
from core.engine.token_vectors import ScoringRules
from core.errors import OptionError
from core.models.model import Model
from core.options import EncodeOptions, check_positive
from core.texts.inputs import STREAM_WINDOW, check_texts
from core.tokenizer.tokenizer import Tokenizer

#: Task to its prompts, the first there is.
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


class MultiVectorEncoder(Model):
    """Text in, a vector for each of its tokens out; compared by MaxSim (ColBERT).

    `core.load_multi_vector` returns one; a backend's `load` hook builds one, usually with
    `build_model`.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        tokenizer: For the shared engine; None for backends that take text.
        scoring_rules: For the shared engine: which tokens get vectors.
        late_interaction: The same as the model's files state it, with lengths and pooling.
        dimension: Of a vector; None asks the runtime or the checkpoint.
        max_seq_length: In tokens; None for the tokenizer's.
        device, dtype: None for the runtime's.
        prompts, default_prompt_name: None for none.
        similarity_fn_name: None for MaxSim.
    """

    kind = MULTI_VECTOR
    noun = "multi-vector model"
    other_options = (
        "activation_fn",
        "apply_softmax",
        "output_value",
        "outputs",
        "precision",
        "truncate_dim",
        "max_active_dims",
    )

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        tokenizer: Tokenizer | None = None,
        scoring_rules: ScoringRules | None = None,
        late_interaction: LateInteraction | None = None,
        dimension: int | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
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
        rules = late_interaction or LateInteraction()
        self.scoring_rules = scoring_rules or ScoringRules()
        self._rules = rules
        self._query_length, self._document_length = rules.query_length, rules.document_length
        self._dimension = dimension
        self._similarity = similarity_fn_name or MAXSIM_FUNCTIONS[0]
        self._cut: dict[int, Tokenizer] = {}

    def _facts(self) -> str:
        return f", dimension {self._dimension}" if self._dimension else ""

    # What it is

    @property
    def dimension(self) -> int | None:
        """Width of a vector; None for a backend that has not said so yet."""
        return self._dimension

    @property
    def query_length(self) -> int | None:
        """Tokens of a query, special ones included; None for `max_seq_length`.

        It can be set, unless queries are filled up to a fixed length.
        """
        fixed = self.query_expansion
        if fixed is not None and fixed.strategy == "fixed":
            return fixed.length
        return self._query_length

    @query_length.setter
    def query_length(self, value: int | None) -> None:
        value = check_positive("query_length", value)
        expansion = self.query_expansion
        if expansion is not None and value is not None and value != self.query_length:
            fixed = expansion.strategy == "fixed"
            if fixed or value < expansion.length:
                how = "exactly" if fixed else "at least"
                raise OptionError(
                    f"query_length={value}: the model fills every query up to {how} "
                    f"{expansion.length} tokens (query_expansion), as it was trained."
                )
        self._query_length = value

    @property
    def document_length(self) -> int | None:
        """Tokens of a document, special ones included; None for `max_seq_length`. Can be set."""
        return self._document_length

    @document_length.setter
    def document_length(self, value: int | None) -> None:
        self._document_length = check_positive("document_length", value)

    @property
    def query_expansion(self) -> QueryExpansion | None:
        """How queries are filled up; None where they are not."""
        return self._rules.expansion

    @property
    def skiplist_words(self) -> tuple[str, ...]:
        """Tokens that get no vector."""
        return self._rules.skiplist_words

    @property
    def token_pooling(self) -> TokenPooling | None:
        """How the model itself joins vectors of a text; None where it does not."""
        return self._rules.pooling

    @property
    def similarity_fn_name(self) -> str:
        """`"maxsim"`, or `"meanmaxsim"` for the mean over a query's vectors."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        if not isinstance(value, str) or value not in MAXSIM_FUNCTIONS:
            raise OptionError(
                f"similarity_fn_name of a multi-vector model must be one of "
                f"{', '.join(MAXSIM_FUNCTIONS)}, not {value!r}."
            )
        self._similarity = value

    def _lengths(self) -> tuple[Any, ...]:
        return (*super()._lengths(), self._query_length, self._document_length)

    def tokenizer_for(self, task: str | None) -> Tokenizer:
        """The tokenizer, cutting texts where those of this task end."""
        length, expansion = None, self.query_expansion
        if task == "document":
            length = self._document_length
        elif task == "query":
            length = self.query_length
            if length is not None and expansion is not None:
                length = max(length, expansion.length)
        if length is None:
            return self.tokenizer
        if length not in self._cut:
            self._cut[length] = self.tokenizer.with_max_length(length)
        return self._cut[length]

    def cutting_tokenizer(self, options: EncodeOptions) -> Tokenizer:
        return self.tokenizer_for(options.task)

    def limit_name(self, options: EncodeOptions) -> str:
        own = options.task is not None and self.tokenizer_for(options.task) is not self.tokenizer
        return f"{options.task}_length" if own else super().limit_name(options)

    def tokenize(self, texts: str | Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """A padded batch of the texts: `input_ids`, `attention_mask`, `token_type_ids`.

        Each is int64 [texts, tokens], padded on the tokenizer's side. Prompts are not added,
        queries are not filled up, and texts are cut after `max_seq_length` tokens.
        """
        return self._token_batch(check_texts([texts] if isinstance(texts, str) else texts))

    def count_tokens(self, texts: str | Sequence[str]) -> NDArray[np.int64]:
        """How many tokens each text has, special ones included and nothing cut: int64 [texts].

        Prompts are not added.

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        return self.tokenizer.count(check_texts([texts] if isinstance(texts, str) else texts))

    # Encoding

    def encode(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Vectors of the tokens of each text, in the texts' order.

        `encode_query` and `encode_document` are what retrieval needs: they say which the texts are.

        Args:
            texts: One text or a sequence of them.
            task: `"query"` or `"document"`: which prompt, length, expansion and skip list apply.
                None counts as a document, of any length and with the default prompt.
            prompt_name: Which of `model.prompts` to put in front of every text.
            prompt: A prompt to use instead; `""` for none.
            batch_size: The most texts in one batch.
            batch_tokens: The most tokens in one batch, padding included.
            workers: How many batches run at once.
            show_progress_bar: None shows it when logging is at INFO or below.
            normalize_embeddings: Scale every vector to length 1, as most models do anyway.
            token_pooling: Join close vectors of a document: a `core.TokenPooling`, or a number, its
                `pool_factor`.
            convert_to_tensor: Return `torch.Tensor`s.
            truncation: Of texts with more tokens than are read: `"cut"` encodes what fits, as does
                None; `"warn"` also logs which they are; `"error"` refuses them.

        Returns:
            A list of float32 [tokens, dimension], one for each text; for a single text its array.
            Tokens of the skip list have no vector; those that fill a query up have.

        Raises:
            OptionError: An unknown option, or an input that is not a string; the message names it.
            PluginError: The backend failed.
        """
        single = isinstance(texts, str)
        result = self._run([texts] if single else texts, self.parse_options(options))
        return result[0] if single else result

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with `task="query"`: the prompt named `query` unless one is given."""
        return self.encode(texts, **_as_task(options, "query", "encode_query"))

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with `task="document"`: the prompt named `document`, `passage` or `corpus`."""
        return self.encode(texts, **_as_task(options, "document", "encode_document"))

    def encode_stream(
        self, texts: Iterable[str], *, window: int = STREAM_WINDOW, **options: Any
    ) -> Iterator[Any]:
        """Encode any number of texts in bounded memory.

        Takes up to `window` texts at a time from the iterable, fewer where they are very long, and
        yields one list for each such group, in order. The other arguments are `encode`'s, `task`
        among them.
        """
        return self._stream(texts, window, options)

    def parse_options(self, given: Mapping[str, Any]) -> EncodeOptions:
        """Keyword arguments of a call as options; without a prompt that of the task is chosen."""
        task = given.get("task")
        names = _PROMPTS.get(task, ()) if isinstance(task, str) else ()
        return super().parse_options(self._with_prompt_of(given, names) if names else given)

    def similarity(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Every query of `a` against every document of `b`: float32 [len(a), len(b)].

        Args:
            a, b: Lists of arrays or tensors [tokens, dimension]; or one such array.

        Returns:
            MaxSim: the sum, over the vectors of the query, of the largest dot product with any
            vector of the document; with `similarity_fn_name="meanmaxsim"` its mean. It is computed
            in blocks, so that memory is bounded.
        """
        return maxsim(a, b, self._similarity)

    def similarity_pairwise(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Each query of `a` against the same document of `b`: float32 [len(a)]."""
        return maxsim_pairwise(a, b, self._similarity)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "similarity_fn_name": self.similarity_fn_name,
            "query_length": self._query_length,
            "document_length": self._document_length,
        }

    # What the operations ask of it

    def check_options(self, options: EncodeOptions) -> None:
        super().check_options(options)
        chosen_pooling(options.token_pooling)

    def checked(self, inputs: Any, start: int = 0) -> Sequence[str]:
        if isinstance(inputs, str):
            raise OptionError("encode takes a sequence of texts here, not one string.")
        return check_texts(inputs, start)

    def finish(self, raw: Any, options: EncodeOptions) -> Any:
        rows = raw
        own = self.token_pooling
        if own is not None and own.applies_to(options.task):
            rows = [_pooled(row, own) for row in rows]
        if options.normalize_embeddings:
            rows = [np.asarray(unit_length(np, row)) for row in rows]
        asked = chosen_pooling(options.token_pooling)
        if asked is not None and asked.applies_to(options.task):
            rows = [_pooled(row, asked) for row in rows]
        if not options.convert_to_tensor:
            return rows
        return [to_tensor(row, self.tensor_device) for row in rows]

    def note_result(self, raw: Any, options: EncodeOptions) -> None:
        if self._dimension is None:
            self._dimension = next((int(row.shape[1]) for row in raw if len(row)), None)

    def join(self, blocks: Sequence[Any]) -> Any:
        return [row for block in blocks for row in block]

    def spread(self, unique: Any, count: int, firsts: Any, duplicates: Any, originals: Any) -> Any:
        result: list[Any] = [None] * count
        for position, row in zip(firsts, unique, strict=True):
            result[position] = row
        for duplicate, original in zip(duplicates, originals, strict=True):
            result[duplicate] = result[original].copy()
        return result


def _pooled(row: NDArray[np.float32], pooling: TokenPooling) -> NDArray[np.float32]:
    if pooling.pool_factor == 1 and not pooling.normalize_embeddings:
        return row
    return pool_tokens(
        row, pooling.pool_factor, pooling.num_protected_tokens, pooling.normalize_embeddings
    )


def _as_task(options: Mapping[str, Any], task: str, method: str) -> dict[str, Any]:
    given = options.get("task", task)
    if given != task:
        raise OptionError(f"{method} encodes each text as a {task}, not task={given!r}.")
    return {**options, "task": task}
