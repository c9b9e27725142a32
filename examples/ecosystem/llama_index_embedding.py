"""LlamaIndex: any model of core as an embedding."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from core import EmbeddingModel


class CoreEmbedding(BaseEmbedding):
    """Queries and texts get the model's own prompts; texts go to the model a batch at a time."""

    _model: EmbeddingModel = PrivateAttr()

    def __init__(self, model: EmbeddingModel, **arguments: Any) -> None:
        # LlamaIndex cuts lists itself; large pieces leave the batches to core.
        arguments.setdefault("embed_batch_size", 1024)
        super().__init__(model_name=str(model.source), **arguments)
        self._model = model

    @classmethod
    def class_name(cls) -> str:
        return "CoreEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        row: list[float] = self._model.encode_query(query).tolist()
        return row

    def _get_text_embedding(self, text: str) -> list[float]:
        row: list[float] = self._model.encode_document(text).tolist()
        return row

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._model.encode_document(texts).tolist()
        return rows

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


if __name__ == "__main__":
    from llama_index.core import Document, VectorStoreIndex

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    texts = ["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."]
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in texts], embed_model=CoreEmbedding(model)
    )
    print(index.as_retriever(similarity_top_k=1).retrieve("weather")[0].text)
