"""Texts to embeddings, and how alike they are, with the reference's arguments."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.arguments import check_kind, check_text_or_none
from core.distributed.pool import ProcessPool
from core.errors import OptionError
from core.machine.cpus import available_cpus
from core.options import check_positive
from core.sentence_transformers.arguments import plain
from core.sentence_transformers.inputs import check_extra, one_input, texts_of
from core.sentence_transformers.placement import Placement
from core.sentence_transformers.results import encode
from core.sentence_transformers.settings import Settings
from core.sentence_transformers.similarity_functions import every_pair, row_by_row
from core.sentence_transformers.tensors import as_tensor
from core.texts.inputs import check_texts

logger = logging.getLogger("core")

_MOST_PROCESSES = 4


def check_pool(pool: Any) -> None:
    """Raise `OptionError` unless it is None or from `start_multi_process_pool`."""
    if pool is not None:
        check_kind("pool", pool, ProcessPool)


class Encoding(Settings, Placement):
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
        if prompt is not None and prompt_name is not None:
            logger.warning(
                "prompt and prompt_name are both given: prompt=%r is used, not the prompt %r.",
                prompt,
                prompt_name,
            )
            prompt_name = None
        options = {
            "prompt_name": prompt_name,
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
        many = isinstance(device, list | tuple) and len(device) > 0
        if many or pool is not None:
            check_positive("chunk_size", chunk_size)
        check_pool(pool)
        if pool is None and many:
            with self.start_multi_process_pool(list(device)) as pool:
                return run(self.embedding_model, pool=pool)
        if device is not None and not isinstance(device, list | tuple):
            self.to(device)
        return run(self.embedding_model, pool=pool)

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

    def _prompt_name(
        self, names: Sequence[str], prompt_name: str | None, prompt: str | None
    ) -> str | None:
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Every row of one against every row of the other: a float32 tensor [n, m].

        Without torch installed, an array of the same values.
        """
        return every_pair(embeddings1, embeddings2, self.embedding_model.similarity_fn_name)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Each row of one against the same row of the other: a float32 tensor [n].

        Two vectors give one value; one vector goes with every row of the other.
        """
        return row_by_row(embeddings1, embeddings2, self.embedding_model.similarity_fn_name)

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        """The padded batch of texts: int64 tensors [texts, tokens] by name; {} without texts."""
        return self.preprocess(texts, **kwargs)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As `tokenize`, with a prompt in front of every text."""
        check_extra(kwargs)
        check_text_or_none("prompt", prompt or None)
        texts = check_texts(texts_of(inputs)[0])
        if not len(texts):
            return {}
        batch = self.embedding_model.tokenize([(prompt or "") + text for text in texts])
        return {name: as_tensor(value) for name, value in batch.items()}

    # Processes

    def start_multi_process_pool(self, target_devices: Sequence[Any] | None = None) -> ProcessPool:
        """Processes that each load the model: one a device; on a CPU as many as it has cores.

        Give the result to `encode(pool=...)`; it is also a context manager.
        """
        if target_devices is not None:
            if not isinstance(target_devices, list | tuple):
                raise OptionError(
                    f"target_devices must be a list of devices, not {target_devices!r}."
                )
            devices = [str(plain(device)) for device in target_devices]
            return ProcessPool(self.embedding_model, devices=devices)
        return ProcessPool(self.embedding_model, min(available_cpus(), _MOST_PROCESSES))

    @staticmethod
    def stop_multi_process_pool(pool: ProcessPool) -> None:
        """End the processes."""
        check_kind("pool", pool, ProcessPool)
        pool.close()

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
