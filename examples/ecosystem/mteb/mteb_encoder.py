"""MTEB: any model of core as an encoder that `mteb.evaluate` takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType
from numpy.typing import NDArray

from core import EmbeddingModel


class CoreEncoder:
    """Queries and documents get the model's own prompts."""

    def __init__(
        self,
        model: EmbeddingModel,
        revision: str | None = None,
        *,
        device: str | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"core/{model.backend}", "revision": revision or "local"}
        )

    def encode(
        self, inputs: Any, *, prompt_type: PromptType | None = None, **task: Any
    ) -> NDArray[np.float32]:
        """Embed the texts of a data loader's batches; float32 [texts, dimension]."""
        texts = [text for batch in inputs for text in batch["text"]]
        encode = {
            PromptType.query: self.model.encode_query,
            PromptType.document: self.model.encode_document,
        }.get(prompt_type, self.model.encode)
        rows: NDArray[np.float32] = encode(texts, batch_size=task.get("batch_size"))
        return rows

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        return self.model.similarity_pairwise(embeddings1, embeddings2)
