"""`SparseEncoder`, on `core.load_sparse`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from core.api import load_sparse
from core.architecture.sparse_modules import SparseAutoEncoder
from core.arguments import check_keywords, check_mapping_or_none
from core.distributed.pool import ProcessPool
from core.engine.sparse import SparseEmbeddings
from core.engine.sparse_similarity import intersection
from core.errors import OptionError
from core.models.sparse import SparseEncoder as CoreModel
from core.options import check_positive
from core.sentence_transformers.absent import NotProvided, Unprovided
from core.sentence_transformers.arguments import (
    plain,
    renamed,
    with_organization,
)
from core.sentence_transformers.construction import complete_prompts, load_as_asked
from core.sentence_transformers.files import Files
from core.sentence_transformers.inputs import check_extra, one_input, one_prompt_name, texts_of
from core.sentence_transformers.processes import Processes
from core.sentence_transformers.results import half_of
from core.sentence_transformers.rows import Rows
from core.sentence_transformers.settings import Attributes
from core.sentence_transformers.tensors import as_sparse, as_tensor
from core.sentence_transformers.tokenizer import transformers_config
from core.texts.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS

logger = logging.getLogger("core")

#: The Hub cache, as older releases name it.
_CACHE_VARIABLE = "SENTENCE_TRANSFORMERS_HOME"
#: The organization of a name without one.
_ORGANIZATION = "sparse-encoder"
_MOST_PROCESSES = 4


class SparseEncoder(Attributes, Processes, Rows, Files, Unprovided):
    """A sparse encoder with sentence-transformers' interface.

    Args:
        model_name_or_path: A directory, `owner/name`, or `name` for `sparse-encoder/name`.
        modules: Not here; a model is loaded from files.
        device, prompts, default_prompt_name, cache_folder, trust_remote_code, revision,
            local_files_only, token, model_kwargs, processor_kwargs, config_kwargs,
            model_card_data, backend: As for `SentenceTransformer`.
        similarity_fn_name: `"dot"`, `"cosine"`, `"euclidean"` or `"manhattan"`.
        max_active_dims: The most values of an embedding; None for the model's own number.
        tokenizer_kwargs: Older name of processor_kwargs.

    Raises:
        CoreError: As `core.load_sparse`; what is wrong with an argument is a ValueError too.

    Attributes:
        embedding_model: The `core.SparseEncoder` underneath.
    """

    embedding_model: CoreModel
    usual_similarity = "dot"

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
        max_active_dims: int | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        name = model_name_or_path
        check_mapping_or_none("tokenizer_kwargs", tokenizer_kwargs)
        self.embedding_model = load_as_asked(
            load_sparse,
            None if name is None else with_organization(name, _ORGANIZATION),
            modules=modules,
            device=device,
            prompts=prompts,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_kwargs=model_kwargs,
            processor_kwargs=renamed(
                "tokenizer_kwargs", "processor_kwargs", tokenizer_kwargs, processor_kwargs
            ),
            config_kwargs=config_kwargs,
            backend=backend,
            similarity_fn_name=plain(similarity_fn_name),
            max_active_dims=max_active_dims,
        )
        self.model_card_data = model_card_data
        names = (*QUERY_PROMPTS, DOCUMENT_PROMPTS[0], *(prompts or ()))
        complete_prompts(self.embedding_model, names, default_prompt_name)

    # What it is

    def __getitem__(self, index: Any) -> Any:
        raise NotProvided(
            f"model[{index!r}] is a torch module in the reference, and no backend but torch has "
            "any. Its settings are here: model.embedding_model.source.architecture."
        )

    @property
    def max_active_dims(self) -> int | None:
        """The most values of an embedding; None sets all, or what a sparse autoencoder keeps."""
        return self.embedding_model.max_active_dims

    @max_active_dims.setter
    def max_active_dims(self, value: int | None) -> None:
        last = self.embedding_model.source.architecture.modules[-1]
        if value is None and isinstance(last, SparseAutoEncoder):
            value = last.k
        self.embedding_model.max_active_dims = value

    get_sentence_embedding_dimension = Attributes.get_embedding_dimension

    #: Tokens whose logits are held at a time, in the reference. Here a part of the vocabulary is.
    splade_pooling_chunk_size: int | None = None

    @property
    def config(self) -> Any:
        """transformers' configuration of the model; a copy. Needs transformers."""
        return transformers_config(self.embedding_model)

    @property
    def transformers_model(self) -> Any:
        """The torch backend's transformers model; None where a graph runs, not a module."""
        return getattr(self.embedding_model.runtime, "module", None)

    # Encoding

    @check_keywords
    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Sparse embeddings of texts, in their order.

        Args:
            inputs: One text or a sequence of them, each a string or `{"text": "..."}`; `sentences`
                is the older name.
            prompt_name: Which of `prompts` to put in front of every text.
            prompt: A prompt to use instead; of both the prompt is used, with a warning.
            batch_size: The most texts in one batch; batches are cut by tokens below that.
            show_progress_bar: None shows it when logging is at INFO or below.
            convert_to_tensor: False gives a list of tensors, one a text.
            convert_to_sparse_tensor: False gives dense tensors.
            save_to_cpu: Keep the result on the CPU.
            device: Moves the model there; a list starts a process for each.
            max_active_dims: The most values of each embedding; None for the model's own number.
            pool: From `start_multi_process_pool`.
            chunk_size: Accepted; processes are given chunks that end at about the same time.
            kwargs: `task`, "query" or "document", for models that treat them differently.

        Returns:
            A sparse COO tensor, float32 [texts, dimension]; for one text [dimension]. Of a torch
            model that computes in float16 or bfloat16 it is in that. Without torch installed,
            `core.SparseEmbeddings`, or arrays instead of dense tensors.

        Raises:
            OptionError: An unknown argument or an input that is not text. It is a ValueError too.
        """
        texts = one_input("inputs", inputs, "sentences", kwargs)
        task = kwargs.pop("task", None)
        check_extra(kwargs)
        rows, single = texts_of(texts)
        options = {
            "prompt_name": one_prompt_name(prompt_name, prompt),
            "prompt": prompt,
            "batch_size": check_positive("batch_size", batch_size),
            "show_progress_bar": None if show_progress_bar is None else bool(show_progress_bar),
            "max_active_dims": max_active_dims,
            "task": task,
        }
        found: SparseEmbeddings
        with self._spread(device, pool) as runner:
            found = runner.encode(rows, **options)
        many = pool is not None or isinstance(device, list | tuple)
        place = None if save_to_cpu or many else self.embedding_model.tensor_device
        dtype = half_of(self.embedding_model)
        if not convert_to_tensor:
            parts = [_result(row, place, convert_to_sparse_tensor, dtype)[0] for row in found]
            return parts[0] if single else parts
        result = _result(found, place, convert_to_sparse_tensor, dtype)
        return result[0] if single else result

    def encode_query(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` for the task "query", with the prompt named `query` where none is given."""
        return self.encode(
            inputs,
            self._prompt_name(QUERY_PROMPTS, prompt_name, prompt),
            prompt,
            batch_size,
            show_progress_bar,
            convert_to_tensor,
            convert_to_sparse_tensor,
            save_to_cpu,
            device,
            max_active_dims,
            pool,
            chunk_size,
            **{"task": "query", **kwargs},
        )

    def encode_document(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` for the task "document", with the prompt named `document`, `passage` or
        `corpus` where none is given."""
        return self.encode(
            inputs,
            self._prompt_name(DOCUMENT_PROMPTS, prompt_name, prompt),
            prompt,
            batch_size,
            show_progress_bar,
            convert_to_tensor,
            convert_to_sparse_tensor,
            save_to_cpu,
            device,
            max_active_dims,
            pool,
            chunk_size,
            **{"task": "document", **kwargs},
        )

    def decode(self, embeddings: Any, top_k: int | None = None) -> Any:
        """The words of embeddings and their weights, the largest first.

        Args:
            embeddings: [dimension] or [n, dimension], sparse or not.
            top_k: At most this many words of each; None for all.

        Returns:
            A list of (token, weight), of a row alone; else a list of such lists. Of a sparse
            autoencoder, whose dimensions are no words, the token is that with the same number, as
            in the reference.
        """
        word = self.embedding_model.tokenizer.backend.id_to_token
        rows = [
            [(word(number), weight) for number, weight in row]
            for row in as_sparse(embeddings).ranked(check_positive("top_k", top_k))
        ]
        return rows[0] if getattr(embeddings, "ndim", 2) == 1 else rows

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """`active_dims`: mean number of values a row; `sparsity_ratio`: the share of zeros."""
        return as_sparse(embeddings).sparsity()

    @staticmethod
    def intersection(embeddings_1: Any, embeddings_2: Any) -> Any:
        """The products of what a row shares with another, or with each of others, where they are
        positive: a sparse tensor of the shape of `embeddings_2`."""
        first = as_sparse(embeddings_1)
        if len(first) != 1:
            raise OptionError(f"embeddings_1 must be one row, not {len(first)}.")
        place = getattr(embeddings_2, "device", None)
        result = _result(intersection(first, as_sparse(embeddings_2)), place, sparse=True)
        return result[0] if getattr(embeddings_2, "ndim", 2) == 1 else result


def _result(rows: SparseEmbeddings, place: Any, sparse: bool, dtype: str | None = None) -> Any:
    """Rows as a tensor on a device; without torch installed as they are, or as an array."""
    if not sparse:
        return as_tensor(rows.to_dense(), device=place, dtype=dtype)
    try:
        import torch  # noqa: F401
    except ImportError:
        return rows
    return as_tensor(rows.to_torch(place), dtype=dtype)
