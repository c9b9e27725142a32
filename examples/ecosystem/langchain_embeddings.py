"""LangChain: any model of core as `Embeddings`."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from core import EmbeddingModel


class CoreEmbeddings(Embeddings):
    """Queries and documents get the model's own prompts."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self.model.encode_document(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        row: list[float] = self.model.encode_query(text).tolist()
        return row


if __name__ == "__main__":
    from langchain_core.vectorstores import InMemoryVectorStore

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    store = InMemoryVectorStore(CoreEmbeddings(model))
    store.add_texts(["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."])
    print(store.similarity_search("weather", k=1)[0].page_content)
