"""`MultiVectorEncoder`, on `core.load_multi_vector`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.api import load_multi_vector
from core.arguments import check_keywords
from core.distributed.pool import ProcessPool
from core.errors import OptionError, UnsupportedOperation
from core.models.multi_vector import MultiVectorEncoder as CoreModel
from core.options import check_positive
from core.sentence_transformers.absent import NotProvided, Unprovided
from core.sentence_transformers.arguments import plain
from core.sentence_transformers.construction import complete_prompts, load_as_asked
from core.sentence_transformers.files import Files
from core.sentence_transformers.inputs import one_prompt_name, texts_of
from core.sentence_transformers.late_interaction import maxsim, maxsim_pairwise
from core.sentence_transformers.processes import Processes
from core.sentence_transformers.results import half_of
from core.sentence_transformers.rows import Tokens
from core.sentence_transformers.settings import Attributes
from core.sentence_transformers.tensors import as_tensor

logger = logging.getLogger("core")

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"


class MultiVectorEncoder(Attributes, Processes, Tokens, Files, Unprovided):
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
    usual_similarity = "maxsim"

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
        self.embedding_model = load_as_asked(
            load_multi_vector,
            model_name_or_path,
            modules=modules,
            device=device,
            prompts=prompts,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
            backend=backend,
            similarity_fn_name=plain(similarity_fn_name),
        )
        self.model_card_data = model_card_data
        complete_prompts(self.embedding_model, prompts or (), default_prompt_name)

    # What it is

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.embedding_model.query_length, .document_length, "
            ".query_expansion, .skiplist_words."
        )

    def get_model_kwargs(self) -> list[str]:
        """Names of further arguments of `encode`."""
        return ["task"]

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """The padded batch of texts: int64 tensors [texts, tokens] by name; {} without texts.

        Raises:
            OptionError: A task: queries are not filled up here, nor cut at a length of their own.
        """
        if kwargs.pop("task", None) is not None:
            raise OptionError(
                "preprocess takes no task: it has the tokens of texts as such. encode_query and "
                "encode_document fill up and cut them."
            )
        return super().preprocess(inputs, prompt, **kwargs)

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
        prompt_name = one_prompt_name(prompt_name, prompt)
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
        with self._spread(device, pool) as runner:
            rows = runner.encode(texts, **options)
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
