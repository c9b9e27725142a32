"""Texts to embeddings, and how alike they are, with the reference's arguments."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

from core.distributed.pool import ProcessPool
from core.options import check_positive
from core.sentence_transformers.inputs import check_extra, one_input, one_prompt_name
from core.sentence_transformers.processes import Processes
from core.sentence_transformers.results import encode
from core.sentence_transformers.rows import Rows
from core.sentence_transformers.settings import Settings

logger = logging.getLogger("core")

_MOST_PROCESSES = 4


class Encoding(Settings, Processes, Rows):
    """`encode` and what belongs to it."""

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed texts, in their order.

        Args:
            inputs: One text or a sequence of them, each a string or `{"text": "..."}`; `sentences`
                is the older name.
            prompt_name: Which of `prompts` to put in front of every text.
            prompt: A prompt to use instead; of both the prompt is used, with a warning.
            batch_size: The most texts in one batch; batches are cut by tokens below that.
            show_progress_bar: None shows it when logging is at INFO or below.
            output_value: `"sentence_embedding"`; `"token_embeddings"` for a list of tensors
                [tokens, hidden]; None for a dictionary with both and the tokens.
            precision: `"float32"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`.
            convert_to_numpy: False gives a list of tensors.
            convert_to_tensor: One tensor instead of an array.
            device: Moves the model there; a list starts a process for each.
            normalize_embeddings: Scale every embedding to length 1.
            truncate_dim: Leading dimensions to keep; more than there are keep all.
            pool: From `start_multi_process_pool`.
            chunk_size: Accepted; processes are given chunks that end at about the same time.
            kwargs: `task` is accepted; no model with several routes loads here. `truncation` is
                that of `core`: `"warn"` or `"error"` for texts that would be cut.

        Returns:
            float32 [texts, dimension]; for one text [dimension]. Without texts [0, dimension].
            float16 of a torch model in float16; tensors are bfloat16 as well.

        Raises:
            OptionError: An unknown argument or an input that is not text. It is a ValueError too.
        """
        texts = one_input("inputs", inputs, "sentences", kwargs)
        truncation = kwargs.pop("truncation", None)
        check_extra(kwargs)
        options = {
            "prompt_name": one_prompt_name(prompt_name, prompt),
            "prompt": prompt,
            "batch_size": batch_size,
            "show_progress_bar": None if show_progress_bar is None else bool(show_progress_bar),
            "output_value": output_value,
            "precision": precision or "float32",
            "normalize_embeddings": bool(normalize_embeddings),
            "truncate_dim": truncate_dim,
            "truncation": truncation,
        }
        run = functools.partial(
            encode,
            inputs=texts,
            options=options,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=bool(convert_to_tensor),
        )
        if pool is not None or isinstance(device, list | tuple):
            check_positive("chunk_size", chunk_size)
        with self._spread(device, pool) as runner:
            own = runner is self.embedding_model
            return run(self.embedding_model, pool=None if own else runner)

    def encode_query(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` with the prompt named `query`, where no prompt is given."""
        return self.encode(
            inputs,
            self._prompt_name(("query",), prompt_name, prompt),
            prompt,
            batch_size,
            show_progress_bar,
            output_value,
            precision,
            convert_to_numpy,
            convert_to_tensor,
            device,
            normalize_embeddings,
            truncate_dim,
            pool,
            chunk_size,
            **kwargs,
        )

    def encode_document(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: ProcessPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """`encode` with the prompt named `document`, where no prompt is given.

        As in the reference every model has one, empty unless its own files or `prompts` say
        otherwise; `passage` and `corpus` are used where `model.prompts` was replaced without it.
        """
        return self.encode(
            inputs,
            self._prompt_name(("document", "passage", "corpus"), prompt_name, prompt),
            prompt,
            batch_size,
            show_progress_bar,
            output_value,
            precision,
            convert_to_numpy,
            convert_to_tensor,
            device,
            normalize_embeddings,
            truncate_dim,
            pool,
            chunk_size,
            **kwargs,
        )

    def encode_multi_process(
        self,
        sentences: Any,
        pool: ProcessPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray[Any, Any]:
        """`encode(sentences, pool=pool, ...)`, its older spelling."""
        result: np.ndarray[Any, Any] = self.encode(
            sentences,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )
        return result
