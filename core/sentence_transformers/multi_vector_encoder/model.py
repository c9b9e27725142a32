"""`MultiVectorEncoder`, on `core.load_multi_vector`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from core.api import load_multi_vector
from core.arguments import check_keywords, check_mapping_or_none, check_prompts
from core.distributed.pool import ProcessPool
from core.errors import OptionError, UnsupportedOperation
from core.models.multi_vector import MultiVectorEncoder as CoreModel
from core.options import check_positive
from core.sentence_transformers.absent import NotProvided
from core.sentence_transformers.arguments import plain, read_model_kwargs, read_tokenizer_kwargs
from core.sentence_transformers.encoding import check_pool
from core.sentence_transformers.files import Files
from core.sentence_transformers.inputs import texts_of
from core.sentence_transformers.late_interaction import maxsim, maxsim_pairwise
from core.sentence_transformers.placement import Placement
from core.sentence_transformers.results import half_of
from core.sentence_transformers.tensors import as_tensor
from core.sentence_transformers.tokenizer import transformers_tokenizer

logger = logging.getLogger("core")

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"


class MultiVectorEncoder(Placement, Files):
    """A multi-vector model with sentence-transformers' interface.

    Args:
        model_name_or_path: A directory, or `owner/name`.
        modules: Not here; a model is loaded from files.
        device, prompts, default_prompt_name, cache_folder, trust_remote_code, revision,
            local_files_only, token, model_kwargs, processor_kwargs, config_kwargs,
            model_card_data, backend: As for `SentenceTransformer`.
        similarity_fn_name: `"maxsim"` or `"meanmaxsim"`; None for the model's own.

    Raises:
        CoreError: As `core.load_multi_vector`; what is wrong with an argument is a ValueError too.

    Attributes:
        embedding_model: The `core.MultiVectorEncoder` underneath.
    """

    embedding_model: CoreModel

    @check_keywords
    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Any = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        similarity_fn_name: Any = None,
    ) -> None:
        if modules is not None or model_name_or_path is None:
            raise OptionError(
                "A model is loaded from files: pass its directory or its name on the Hub. To put "
                "one together from modules, do so with sentence_transformers, save it, and load it."
            )
        for name, given in (
            ("prompts", prompts),
            ("model_kwargs", model_kwargs),
            ("processor_kwargs", processor_kwargs),
            ("config_kwargs", config_kwargs),
        ):
            check_mapping_or_none(name, given)
        own, also = read_model_kwargs(model_kwargs, backend)
        length = read_tokenizer_kwargs(processor_kwargs)["model_max_length"]
        # A prompt that is None is the model's own, or empty if it has none.
        named = {name: text for name, text in (prompts or {}).items() if text is not None}
        arguments = {
            "device": plain(device),
            "revision": revision,
            "token": token,
            "cache_dir": cache_folder or os.environ.get(_CACHE_VARIABLE),
            "local_files_only": bool(local_files_only),
            "trust_remote_code": trust_remote_code,
            **also,
        }
        self.embedding_model = load_multi_vector(
            model_name_or_path,
            backend=backend,
            prompts=named or None,
            similarity_fn_name=plain(similarity_fn_name),
            model_kwargs=own,
            config_kwargs=config_kwargs,
            **arguments,
        )
        self.model_card_data = model_card_data
        for name in prompts or ():
            self.prompts.setdefault(name, "")
        if default_prompt_name is not None:
            self._set_default_prompt(default_prompt_name)
        if length is not None:  # also more than the model has positions for, as in the reference
            self.embedding_model.restore({"max_seq_length": length})

    def _set_default_prompt(self, name: str) -> None:
        if name not in self.prompts:
            self.embedding_model.close()
            raise OptionError(
                f"default_prompt_name={name!r} is not one of the model's prompts: "
                f"{', '.join(map(repr, self.prompts))}. Add it with prompts={{...}}."
            )
        self.default_prompt_name = name

    # What it is

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.embedding_model.query_length, .document_length, "
            ".query_expansion, .skiplist_words."
        )

    def __len__(self) -> int:
        return len(self.embedding_model.source.architecture.entries)

    def __repr__(self) -> str:
        return f"MultiVectorEncoder({self.embedding_model!r})"

    @property
    def prompts(self) -> dict[str, str]:
        """Name to prompt; `query` and `document` are there from the start, if only as ""."""
        return self.embedding_model.prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self.embedding_model.prompts = check_prompts(value)

    @property
    def default_prompt_name(self) -> str | None:
        """Which prompt `encode` uses unless told otherwise."""
        return self.embedding_model.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        self.embedding_model.default_prompt_name = value

    @property
    def similarity_fn_name(self) -> str:
        """`"maxsim"` or `"meanmaxsim"`; set None for the first."""
        return self.embedding_model.similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self.embedding_model.similarity_fn_name = plain(value) or "maxsim"

    @property
    def max_seq_length(self) -> int | None:
        """Texts without a task are cut after this many tokens; it can be set."""
        return self.embedding_model.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        length = check_positive("max_seq_length", value)
        if length is None:
            self.embedding_model.max_seq_length = None
        self.embedding_model.restore({"max_seq_length": length})

    def get_max_seq_length(self) -> int | None:
        """`max_seq_length`."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int | None:
        """Width of a vector."""
        return self.embedding_model.dimension

    @property
    def tokenizer(self) -> Any:
        """transformers' tokenizer of the model; a copy. Needs transformers."""
        return transformers_tokenizer(self.embedding_model)

    @property
    def backend(self) -> str:
        """Its backend's name."""
        return self.embedding_model.backend

    def get_backend(self) -> str:
        """Its backend's name."""
        return self.backend

    # Encoding

    @check_keywords
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        task: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """A vector for each token of a text, or of texts.

        Args:
            inputs: One text or a sequence of them, each a string or `{"text": "..."}`.
            prompt_name: Which of `prompts` to put in front of every text.
            prompt: A prompt to use instead; of both the prompt is used, with a warning.
            batch_size: The most texts in one batch; batches are cut by tokens below that.
            show_progress_bar: None shows it when logging is at INFO or below.
            output_value: Only `"token_embeddings"`.
            convert_to_numpy: A list of arrays instead of tensors.
            device: Moves the model there; a list starts a process for each.
            normalize_embeddings: Scale every vector to length 1.
            pool: From `start_multi_process_pool`.
            chunk_size: Accepted; processes are given chunks that end at about the same time.
            token_pooling: A `HierarchicalTokenPooling`, the reference's or this package's.
            task: `"query"` or `"document"`: which length, expansion and skip list apply; prompts
                are those of `encode_query` and `encode_document`.
            kwargs: `truncation` is that of `core`.

        Returns:
            A list of float32 tensors [tokens, dimension] on the model's device; of one text its
            tensor. Half precision of a torch model that computes in it.

        Raises:
            OptionError: An unknown argument or an input that is not text. It is a ValueError too.
        """
        if output_value != "token_embeddings":
            raise UnsupportedOperation(
                f"output_value={output_value!r}: core gives the vectors of tokens "
                '("token_embeddings") and not what each module makes of a batch. '
                "model.embedding_model.tokenize(texts) has the tokens."
            )
        truncation = kwargs.pop("truncation", None)
        _check_extra(kwargs)
        if prompt is not None and prompt_name is not None:
            logger.warning(
                "prompt and prompt_name are both given: prompt=%r is used, not the prompt %r.",
                prompt,
                prompt_name,
            )
            prompt_name = None
        if prompt is None and prompt_name is None:  # the task's own belongs to other methods
            prompt_name = self.default_prompt_name
            prompt = "" if prompt_name is None else None
        texts, single = texts_of(inputs)
        options = {
            "prompt_name": prompt_name,
            "prompt": prompt,
            "batch_size": check_positive("batch_size", batch_size),
            "show_progress_bar": None if show_progress_bar is None else bool(show_progress_bar),
            "normalize_embeddings": bool(normalize_embeddings),
            "token_pooling": token_pooling,
            "task": task,
            "truncation": truncation,
        }
        check_positive("chunk_size", chunk_size)
        check_pool(pool)
        with self._runner(device, pool) as run:
            rows = run.encode(texts, **options)
        result = [self._result(row, convert_to_numpy=convert_to_numpy) for row in rows]
        return result[0] if single else result

    def encode_query(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` of queries, with the prompt named `query` where none is given."""
        return self.encode(
            inputs, self._prompt_name(("query",), prompt_name, prompt), prompt, batch_size,
            show_progress_bar, output_value, convert_to_numpy, device, normalize_embeddings, pool,
            chunk_size, token_pooling, **_with_task(kwargs, "query"),
        )  # fmt: skip

    def encode_document(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` of documents, with the prompt named `document` where none is given."""
        names = ("document", "passage", "corpus")
        return self.encode(
            inputs, self._prompt_name(names, prompt_name, prompt), prompt, batch_size,
            show_progress_bar, output_value, convert_to_numpy, device, normalize_embeddings, pool,
            chunk_size, token_pooling, **_with_task(kwargs, "document"),
        )  # fmt: skip

    def _prompt_name(
        self, names: tuple[str, ...], prompt_name: str | None, prompt: str | None
    ) -> str | None:
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    @contextlib.contextmanager
    def _runner(self, device: Any, pool: ProcessPool | None) -> Iterator[Any]:
        if pool is not None:
            yield pool
        elif isinstance(device, list | tuple) and device:
            with self.start_multi_process_pool(list(device)) as started:
                yield started
        else:
            if device is not None and not isinstance(device, list | tuple):
                self.to(device)
            yield self.embedding_model

    def _result(self, row: Any, *, convert_to_numpy: bool) -> Any:
        half = half_of(self.embedding_model)
        if convert_to_numpy:  # an array cannot be bfloat16
            return row.astype(np.float16) if half == "float16" else row
        return as_tensor(row, device=self.embedding_model.tensor_device, dtype=half)

    def similarity(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Any:
        """Every query against every document, by `similarity_fn_name`: a float32 tensor [n, m].

        Args:
            embeddings1, embeddings2: Lists of tensors or arrays [tokens, dimension], one of them
                alone, or padded tensors [n, tokens, dimension].
            kwargs: Of `util.maxsim`: `length_normalize`, and `device` and `chunk_elements`, which
                have no effect here.
        """
        return maxsim(embeddings1, embeddings2, **self._scoring(kwargs))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Any:
        """Each query against the same document: a float32 tensor [n]; see `similarity`."""
        return maxsim_pairwise(embeddings1, embeddings2, **self._scoring(kwargs))

    def _scoring(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"length_normalize": self.similarity_fn_name == "meanmaxsim", **given}

    def start_multi_process_pool(self, target_devices: Any = None) -> ProcessPool:
        """Processes with a copy of the model each, for `encode(..., pool=...)`."""
        if target_devices is None:
            return ProcessPool(self.embedding_model)
        return ProcessPool(self.embedding_model, devices=[str(plain(d)) for d in target_devices])

    @staticmethod
    def stop_multi_process_pool(pool: ProcessPool) -> None:
        """End the processes."""
        pool.close()


def _with_task(kwargs: Mapping[str, Any], task: str) -> dict[str, Any]:
    if "task" in kwargs:
        raise OptionError(f"encode_{task} encodes each text as a {task}: leave task out.")
    return {**kwargs, "task": task}


def _check_extra(extra: Mapping[str, Any]) -> None:
    if "convert_to_tensor" in extra:
        raise OptionError(
            "encode of a multi-vector model has no convert_to_tensor: texts have different numbers "
            "of vectors, which no tensor holds. It returns a list of tensors anyway; "
            "convert_to_numpy=True makes them arrays."
        )
    if extra.get("processing_kwargs"):
        raise OptionError(
            f"processing_kwargs={extra['processing_kwargs']!r}: core tokenizes every call alike. "
            "Set model.embedding_model.query_length or document_length for another length."
        )
    unknown = sorted(set(extra) - {"processing_kwargs"})
    if unknown:
        raise OptionError(
            f"encode does not take {', '.join(map(repr, unknown))}. Arguments for a model's own "
            "code have no counterpart here."
        )
