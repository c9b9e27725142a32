"""`EmbeddingModel`: a loaded model, whatever backend runs it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from core.architecture import SIMILARITIES
from core.checkpoint import Checkpoint
from core.errors import CoreError, OptionError, UnsupportedOperation
from core.inputs import STREAM_WINDOW, check_stream, check_texts, take_window
from core.options import EncodeOptions, LoadOptions, check_names, check_positive, field_names
from core.runtime import Runtime, RuntimeFactory
from core.similarity import similarity, similarity_pairwise
from core.tokenizer import Tokenizer, read_tokenizer

if TYPE_CHECKING:
    from core.artifact import Artifact
    from core.operations import Hooks

_DEFAULT_OPTIONS = EncodeOptions()
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class EmbeddingModel:
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
        self.source = source
        self.runtime = runtime
        self.prompts: dict[str, str] = dict(prompts or {})
        self.default_prompt_name = default_prompt_name
        self._truncate_dim = truncate_dim
        #: The file it was loaded from, relative to the checkpoint; None where there is none.
        self.file_name: str | None = None
        self._tokenizer = tokenizer
        self._dimension = dimension
        self._max_seq_length = max_seq_length
        self._device = device
        self._dtype = dtype
        self._similarity = similarity_fn_name or "cosine"
        self._hooks: Hooks | None = None
        self._reload: dict[str, Any] | None = None
        self._identity: tuple[Any, str] | None = None
        self._closed = False

    def __repr__(self) -> str:
        if self._closed:
            return f"<EmbeddingModel {str(self.source)!r}, closed>"
        if self._hooks is None:  # as a wrapper of the load hook sees it
            return f"<EmbeddingModel {str(self.source)!r}>"
        return (
            f"<EmbeddingModel {str(self.source)!r} on {self.backend} "
            f"({self.device}, {self.dtype}), dimension {self.dimension}>"
        )

    # What it is

    @property
    def hooks(self) -> Hooks:
        """The six operations of this model's backend."""
        if self._hooks is None:
            raise OptionError(
                "This EmbeddingModel was not made by core.load or core.hooks(name).load, so no "
                "backend belongs to it."
            )
        return self._hooks

    @property
    def backend(self) -> str:
        """Its backend's name."""
        return self.hooks.name

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Files of the checkpoint its weights were read from; empty where it has none."""
        stated: tuple[str, ...] = getattr(self.runtime, "files", ())
        return stated or ((self.file_name,) if self.file_name else ())

    @property
    def identity(self) -> str:
        """64 hexadecimal digits that differ whenever its embeddings may: for caches and records.

        Covers checkpoint (commit, or a directory's files by size and time), file, backend and its
        version, load options, device, dtype and token limit; not prompts and truncation.
        """
        from core.identity import model_identity

        key = (self.max_seq_length, self._device, self._dtype)
        if self._identity is None or self._identity[0] != key:
            self._identity = (key, model_identity(self))
        return self._identity[1]

    @property
    def device(self) -> str:
        """Where it really computes, as the runtime reports it."""
        return str(self._device or getattr(self.runtime, "device", "cpu"))

    @property
    def dtype(self) -> str:
        """What it really computes in, as the runtime reports it."""
        return str(self._dtype or getattr(self.runtime, "dtype", "float32"))

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
        self._truncate_dim = check_positive("truncate_dim", value)

    @property
    def full_dimension(self) -> int:
        """Width of the embeddings before truncation."""
        if self._dimension is None:
            known = getattr(self.runtime, "dimension", None)
            if known is None and isinstance(self.runtime, Runtime):
                known = self.runtime.architecture.dimension
            # No configuration file tells: one text does.
            self._dimension = int(known) if known else self._probe_dimension()
        return self._dimension

    def _probe_dimension(self) -> int:
        return int(self.hooks.raw_encode(self, ["dimension"], EncodeOptions()).shape[1])

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the shared engine.

        Raises:
            UnsupportedOperation: The backend takes text and has none.
        """
        if self._tokenizer is None:
            raise UnsupportedOperation(f"Models of the {self.backend} backend have no tokenizer.")
        return self._tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut after this many tokens, special ones included; None for no limit."""
        if self._max_seq_length is None and self._tokenizer is not None:
            return self._tokenizer.max_length
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        value = check_positive("max_seq_length", value)
        self._tokenizer = self.tokenizer.with_max_length(value)
        self._max_seq_length = None

    @property
    def similarity_fn_name(self) -> str:
        """`"cosine"`, `"dot"`, `"euclidean"` or `"manhattan"`."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        if value not in SIMILARITIES:
            raise OptionError(
                f"similarity_fn_name must be one of {', '.join(SIMILARITIES)}, not {value!r}."
            )
        self._similarity = value

    def tokenize(self, texts: str | Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The padded batch a runtime is given: `input_ids`, `attention_mask`, `token_type_ids`.

        Each is int64 [texts, tokens]. Prompts are not added.
        """
        from core.batching import pad

        rows = check_texts([texts] if isinstance(texts, str) else texts)
        tokenizer = self.tokenizer
        if not rows:
            empty = np.empty((0, 0), dtype=np.int64)
            return dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), empty)
        tokens = tokenizer.encode(rows)
        batch = pad(tokens.ids, tokens.lengths, tokenizer.pad_id, tokenizer.padding_side)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }

    # Encoding

    def encode(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Embed texts, in their order.

        Args:
            texts: One text or a sequence of them.
            prompt_name: Which of `model.prompts` to put in front of every text.
            prompt: A prompt to use instead; `""` for none. Given prompt, then prompt name, then
                the model's default.
            batch_size: The most texts in one batch.
            batch_tokens: The most tokens in one batch, padding included.
            workers: How many batches run at once.
            show_progress_bar: None shows it when logging is at INFO or below.
            output_value: `"sentence_embedding"`, or `"token_embeddings"` for a list of
                float32 [tokens, hidden].
            precision: `"float32"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`; see
                `core.quantize_embeddings`.
            normalize_embeddings: Scale every embedding to length 1.
            truncate_dim: Keep this many leading dimensions.
            convert_to_tensor: Return a `torch.Tensor`.

        Returns:
            float32 [len(texts), dimension]; for a single text [dimension]. Equal texts give equal
            rows.

        Raises:
            OptionError: An unknown option, or an input that is no string; the message names it.
            PluginError: The backend failed.
        """
        single = isinstance(texts, str)
        result = self.hooks.encode(
            model=self,
            texts=cast("Sequence[str]", [texts] if single else texts),
            options=self._encode_options(options),
        )
        return result[0] if single else result

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `query`, if the model has one and none is given."""
        return self.encode(texts, **self._with_prompt(options, _QUERY_PROMPTS))

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `document`, `passage` or `corpus`, the first there is."""
        return self.encode(texts, **self._with_prompt(options, _DOCUMENT_PROMPTS))

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
        parsed = self._encode_options(options)
        check_stream(texts, window, parsed)
        return self._stream(iter(texts), window, parsed)

    def _stream(self, source: Iterator[str], window: int, options: EncodeOptions) -> Iterator[Any]:
        start = 0
        while rows := take_window(source, window):
            check_texts(rows, start)
            yield self.hooks.encode(model=self, texts=rows, options=options)
            start += len(rows)

    def _encode_options(self, options: Mapping[str, Any]) -> EncodeOptions:
        if not options:
            return _DEFAULT_OPTIONS
        check_names(options, field_names(EncodeOptions), "encode")
        return EncodeOptions(**options)

    def _with_prompt(self, options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        given = dict(options)
        if given.get("prompt") is None and given.get("prompt_name") is None:
            given["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return given

    def similarity(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Every row of `a` against every row of `b`: float32 [len(a), len(b)]."""
        return similarity(a, b, self._similarity)

    def similarity_pairwise(self, a: Any, b: Any) -> NDArray[np.float32]:
        """Each row of `a` against the same row of `b`: float32 [len(a)]."""
        return similarity_pairwise(a, b, self._similarity)

    # Files

    def optimize(self, config: Any = None, target: Any = None, **options: Any) -> Artifact:
        """`core.optimize` of this model."""
        from core.api import optimize

        return optimize(self, config, target, **options)

    def quantize(self, config: Any = None, target: Any = None, **options: Any) -> Artifact:
        """`core.quantize` of this model."""
        from core.api import quantize

        return quantize(self, config, target, **options)

    def save(self, path: Any) -> Any:
        """`core.save` of this model."""
        from core.api import save

        return save(self, path)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model to a Hub repository; returns the commit's or pull request's URL."""
        from core.push import push_model

        return push_model(self, repo_id, **options)

    # Life

    def close(self) -> None:
        """Free the runtime. Encoding afterwards is an error; closing twice is not."""
        if not self._closed:
            self._closed = True
            close = getattr(self.runtime, "close", None)
            if close is not None:
                close()
            self.runtime = None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if self._reload is None:
            raise CoreError(
                "Only models from core.load can be pickled: pickling stores how to load it again."
            )
        _check_portable(self._reload["model_kwargs"])
        state = {
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "truncate_dim": self.truncate_dim,
            "similarity_fn_name": self._similarity,
            "max_seq_length": self.max_seq_length if self._tokenizer is not None else None,
        }
        return _load_again, (self._reload, state)


def _check_portable(model_kwargs: Mapping[str, Any]) -> None:
    """Raise `CoreError` for a load option that cannot go to another process."""
    for name, value in model_kwargs.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever its __reduce__ raises
            raise CoreError(
                f"The model was loaded with {name}={value!r} in model_kwargs, which cannot be "
                f"pickled ({error}), so another process cannot load it the same way. Load it with "
                "plain values: a mapping, strings and numbers."
            ) from error


def _load_again(arguments: dict[str, Any], state: dict[str, Any]) -> EmbeddingModel:
    import core

    model: EmbeddingModel = core.load(**arguments)
    model.prompts = state["prompts"]
    model.default_prompt_name = state["default_prompt_name"]
    model.truncate_dim = state["truncate_dim"]
    model.similarity_fn_name = state["similarity_fn_name"]
    if state["max_seq_length"] is not None and state["max_seq_length"] != model.max_seq_length:
        model.max_seq_length = state["max_seq_length"]
    return model


def build_model(
    source: Checkpoint, options: LoadOptions, open_runtime: RuntimeFactory
) -> EmbeddingModel:
    """The body of a `load` hook that runs checkpoints through the shared engine.

    Reads the architecture and the tokenizer and calls `open_runtime(source, architecture,
    options)` for the rest. Static embeddings need no runtime of a backend and get the shared one.
    """
    architecture = source.architecture
    tokenizer = read_tokenizer(source, architecture)
    if architecture.is_static:
        from core.static import StaticRuntime

        open_runtime = StaticRuntime.open
    runtime = open_runtime(source, architecture, options)
    return EmbeddingModel(
        source,
        runtime,
        tokenizer=tokenizer,
        prompts=architecture.prompts,
        default_prompt_name=architecture.default_prompt_name,
        similarity_fn_name=architecture.similarity_fn_name,
        truncate_dim=architecture.truncate_dim,
    )
