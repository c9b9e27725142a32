"""`EmbeddingModel`: a loaded model, whatever backend runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.architecture import SIMILARITIES
from core.architecture.kinds import EMBEDDING
from core.architecture.token_heads import HEAD_FILES
from core.checkpoint.checkpoint import Checkpoint
from core.engine.outputs import (
    finish_outputs,
    first_output,
    join_outputs,
    output_similarity,
    take_texts,
)
from core.engine.postprocessing import postprocess
from core.engine.runtime import Runtime
from core.errors import OptionError, UnsupportedOperation
from core.models.model import Model
from core.options import DENSE, EncodeOptions, check_positive
from core.texts.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, STREAM_WINDOW, check_texts
from core.tokenizer.tokenizer import Tokenizer


class EmbeddingModel(Model):
    """Text in, embeddings out.

    `core.load` returns one; a backend's `load` hook builds one, usually with `build_model`.

    Args:
        source: The checkpoint it was loaded from.
        runtime: Whatever the backend's `encode` needs; a `core.Runtime` for the shared engine.
        tokenizer: For the shared engine; None for backends that take text.
        dimension: Of an embedding, before truncation; None asks the runtime or the checkpoint.
        max_seq_length: In tokens; None for the tokenizer's.
        device: None for the runtime's.
        dtype: None for the runtime's.
        prompts, default_prompt_name, similarity_fn_name, truncate_dim: None for the checkpoint's
            (no prompts, cosine).
    """

    kind = EMBEDDING
    noun = "sentence embedding model"
    other_options = (
        "activation_fn", "apply_softmax", "task", "token_pooling", "max_active_dims",
    )  # fmt: skip

    def __init__(
        self,
        source: Checkpoint,
        runtime: Any,
        *,
        tokenizer: Tokenizer | None = None,
        dimension: int | None = None,
        max_seq_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
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
        self._truncate_dim = truncate_dim
        self._dimension = dimension
        self._similarity = similarity_fn_name or "cosine"

    def _facts(self) -> str:
        return f", dimension {self.dimension}"

    # What it is

    @property
    def dimension(self) -> int:
        """Width of the embeddings `encode` returns by default."""
        full = self.full_dimension
        return min(full, self.truncate_dim) if self.truncate_dim else full

    @property
    def truncate_dim(self) -> int | None:
        """Leading dimensions that `encode` keeps by default; None for all."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        value = check_positive("truncate_dim", value)
        check_truncate_dim(value, self)
        self._truncate_dim = value

    @property
    def known_dimension(self) -> int | None:
        """`full_dimension`, where it is known without embedding a text."""
        return self._dimension

    @property
    def full_dimension(self) -> int:
        """Width of the embeddings before truncation."""
        if self._dimension is None:
            known = getattr(self.runtime, "dimension", None)
            if known is None and isinstance(self.runtime, Runtime):
                known = self.runtime.architecture.dimension
            # No configuration file states it: embed one text.
            self._dimension = int(known) if known else self._probe_dimension()
        return self._dimension

    def _probe_dimension(self) -> int:
        return int(self.hooks.raw_encode(self, ["dimension"], EncodeOptions()).shape[1])

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `encode(outputs=...)` can compute: `"dense"`, and `"sparse"` and `"multi_vector"`
        of a model with heads for them whose backend runs those."""
        return outputs_of(self)

    @property
    def similarity_fn_name(self) -> str:
        """`"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        if not isinstance(value, str) or value not in SIMILARITIES:
            raise OptionError(
                f"similarity_fn_name must be one of {', '.join(SIMILARITIES)}, not {value!r}."
            )
        self._similarity = value

    def tokenize(self, texts: str | Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """A padded batch of the texts: `input_ids`, `attention_mask`, `token_type_ids`.

        Each is int64 [texts, tokens], padded on the tokenizer's side; `encode` itself pads on the
        right, which no embedding depends on. Prompts are not added, and texts are cut after
        `max_seq_length` tokens; `count_tokens` counts them all.
        """
        return self._token_batch(check_texts([texts] if isinstance(texts, str) else texts))

    def count_tokens(self, texts: str | Sequence[str]) -> NDArray[np.int64]:
        """How many tokens each text has, special ones included and nothing cut: int64 [texts].

        Where that is more than `max_seq_length`, `encode` embeds a part of the text. Prompts are
        not added.

        Raises:
            UnsupportedOperation: The backend takes text and has no tokenizer.
        """
        return self.tokenizer.count(check_texts([texts] if isinstance(texts, str) else texts))

    # Encoding

    def encode(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Embed texts, in their order.

        Args:
            texts: One text or a sequence of them.
            prompt_name: Which of `model.prompts` to put in front of every text.
            prompt: A prompt to use instead; `""` for none. Without either, the model's
                default; both are an error.
            batch_size: The most texts in one batch.
            batch_tokens: The most tokens in one batch, padding included.
            workers: How many batches run at once.
            show_progress_bar: None shows it when logging is at INFO or below.
            output_value: `"sentence_embedding"`, or `"token_embeddings"` for a list of
                float32 [tokens, hidden].
            outputs: Several kinds of embeddings of one pass, of `model.outputs`, as in
                `outputs=("dense", "sparse", "multi_vector")`.
            precision: `"float32"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`; see
                `core.quantize_embeddings`.
            normalize_embeddings: Scale every embedding to length 1.
            truncate_dim: Keep this many leading dimensions.
            convert_to_tensor: Return a `torch.Tensor`.
            truncation: Of texts with more tokens than `max_seq_length`: `"cut"` embeds what fits,
                as does None; `"warn"` also logs which they are; `"error"` refuses them.

        Returns:
            float32 [len(texts), dimension]; for a single text [dimension]. Equal texts give equal
            rows. With `outputs` a dictionary: "dense" is the above, "sparse" `SparseEmbeddings`
            [len(texts), vocabulary] with the weights of words (of a single text one row), and
            "multi_vector" a list of float32 [tokens, dimension], each of length 1, without the
            first token (of a single text one array). `precision`, `normalize_embeddings` and
            `truncate_dim` change "dense".

        Raises:
            OptionError: An unknown option, or an input that is not a string; the message names it.
            UnsupportedOperation: `outputs` that the model or its backend does not have.
            PluginError: The backend failed.
        """
        single = isinstance(texts, str)
        result = self._run([texts] if single else texts, self.parse_options(options))
        return self.first_of(result) if single else result

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `query`, if the model has one and none is given.

        Without one, that of `default_prompt_name` is used, as in `encode`; `prompt=""` is none.
        """
        return self.encode(texts, **self._with_prompt_of(options, QUERY_PROMPTS))

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `document`, `passage` or `corpus`, the first there is.

        Without any, that of `default_prompt_name` is used, as in `encode`; `prompt=""` is none.
        """
        return self.encode(texts, **self._with_prompt_of(options, DOCUMENT_PROMPTS))

    def encode_stream(
        self, texts: Iterable[str], *, window: int = STREAM_WINDOW, **options: Any
    ) -> Iterator[Any]:
        """Embed any number of texts in bounded memory.

        Takes up to `window` texts at a time from the iterable, fewer where they are very long,
        and yields one array for each such group, in order: float32 [at most window, dimension].
        The other arguments are `encode`'s.

        Raises:
            OptionError: As `encode`; also for `precision="int8"` and `"uint8"`, whose ranges come
                from all embeddings: stream float32 and use `core.quantize_embeddings` with ranges.
        """
        return self._stream(texts, window, options)

    def similarity(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Every row of `a` against every row of `b`: float32 [len(a), len(b)].

        Embeddings are compared by `similarity_fn_name`. Two `SparseEmbeddings` are compared by dot
        product, and two lists of multi-vector embeddings by the mean of MaxSim, as FlagEmbedding
        does for such models.
        """
        return output_similarity(a, b, self._similarity)

    def similarity_pairwise(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Each row of `a` against the same row of `b`, as `similarity`: float32 [len(a)]."""
        return output_similarity(a, b, self._similarity, pairwise=True)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "truncate_dim": self.truncate_dim,
            "similarity_fn_name": self.similarity_fn_name,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        given = dict(state)
        if "truncate_dim" in given:
            self._truncate_dim = given.pop("truncate_dim")
        super().restore(given)

    # What the operations ask of it

    def check_options(self, options: EncodeOptions) -> None:
        super().check_options(options)
        check_truncate_dim(options.truncate_dim, self)
        check_outputs(options.outputs, self)

    def checked(self, inputs: Any, start: int = 0) -> Sequence[str]:
        if isinstance(inputs, str):
            raise OptionError("encode takes a sequence of texts here, not one string.")
        return check_texts(inputs, start)

    def finish(self, raw: Any, options: EncodeOptions) -> Any:
        if options.outputs is not None:
            return finish_outputs(raw, options, self.truncate_dim, self.tensor_device)
        return postprocess(raw, options, self.truncate_dim, self.tensor_device)

    def note_result(self, raw: Any, options: EncodeOptions) -> None:
        if options.outputs is not None:
            raw = raw.get(DENSE)
        elif options.output_value == "token_embeddings":
            raw = None
        if self._dimension is None and raw is not None:
            self._dimension = int(raw.shape[1])

    def first_of(self, result: Any) -> Any:
        return first_output(result) if isinstance(result, dict) else super().first_of(result)

    def join(self, blocks: Sequence[Any]) -> Any:
        if blocks and isinstance(blocks[0], dict):
            return join_outputs(blocks)
        if blocks and isinstance(blocks[0], list):  # token embeddings
            return [row for block in blocks for row in block]
        return super().join(blocks)

    def spread(self, unique: Any, count: int, firsts: Any, duplicates: Any, originals: Any) -> Any:
        if not isinstance(unique, dict):
            return super().spread(unique, count, firsts, duplicates, originals)
        place = np.empty(count, dtype=np.int64)
        place[firsts] = np.arange(len(firsts))
        place[duplicates] = place[originals]
        return take_texts(unique, place)


def check_truncate_dim(value: int | None, model: EmbeddingModel) -> None:
    """Raise `OptionError` for more dimensions than the model's embeddings have."""
    if value is not None and value > model.full_dimension:
        raise OptionError(
            f"truncate_dim={value}: the model's embeddings have {model.full_dimension} dimensions. "
            f"Pass {model.full_dimension} or less, or None for all."
        )


def outputs_of(model: EmbeddingModel) -> tuple[str, ...]:
    """The kinds of embeddings that both the model and its backend have."""
    stated = model.source.architecture.outputs if model.source.names else (DENSE,)
    owner = model.owner
    runs = stated if owner is None else owner.capabilities.outputs
    return tuple(name for name in stated if name in runs)


def check_outputs(names: Sequence[str] | None, model: EmbeddingModel) -> None:
    """Raise `UnsupportedOperation` for kinds of embeddings that a model does not give."""
    missing = [name for name in names or () if name not in model.outputs]
    if not missing:
        return
    stated = model.source.architecture.outputs if model.source.names else (DENSE,)
    listed = " and ".join(missing)
    lacking = [name for name in missing if name not in stated]
    if lacking:
        files = ", ".join(HEAD_FILES[name] for name in lacking)
        raise UnsupportedOperation(
            f"{model!r} has no {' and '.join(lacking)} embeddings: a model that gives them beside "
            f"its own has {files} beside its weights, as BAAI/bge-m3 does. It gives "
            f"{', '.join(model.outputs)}."
        )
    raise UnsupportedOperation(
        f"{model.source} has heads for {listed} embeddings, and the {model.backend} backend does "
        f"not run them: its OUTPUTS are {', '.join(model.outputs)}. Load the model with a backend "
        "that does, such as onnx, openvino or torch."
    )
