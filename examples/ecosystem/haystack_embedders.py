"""Haystack: any model of core as the two embedders of a pipeline."""

from __future__ import annotations

from dataclasses import replace

from haystack import Document, component

from core import EmbeddingModel


@component
class CoreTextEmbedder:
    """A query, with the model's query prompt."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        return {"embedding": self.model.encode_query(text).tolist()}


@component
class CoreDocumentEmbedder:
    """Documents, with the model's document prompt; documents without text are left as they are."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        with_text = [document for document in documents if document.content is not None]
        rows = self.model.encode_document([document.content for document in with_text])
        embedded = {
            id(document): replace(document, embedding=row.tolist())
            for document, row in zip(with_text, rows, strict=True)
        }
        return {"documents": [embedded.get(id(document), document) for document in documents]}


if __name__ == "__main__":
    from haystack import Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    texts = ["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = CoreDocumentEmbedder(model).run([Document(content=text) for text in texts])
    store.write_documents(documents["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", CoreTextEmbedder(model))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    found = pipeline.run({"embedder": {"text": "weather"}})
    print(found["retriever"]["documents"][0].content)
