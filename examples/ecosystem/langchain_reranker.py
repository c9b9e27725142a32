"""LangChain: any reranker of core as a document compressor, and behind any retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict

from core import Reranker


class CoreReranker(BaseDocumentCompressor):
    """The best documents first, each with its score in `metadata["relevance_score"]`.

    Attributes:
        top_k: How many documents to keep; None for all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Reranker
    top_k: int | None = None

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        texts = [document.page_content for document in documents]
        ranked = self.model.rank(query, texts, top_k=self.top_k)
        return [
            documents[entry["corpus_id"]].model_copy(
                update={
                    "metadata": {
                        **documents[entry["corpus_id"]].metadata,
                        "relevance_score": entry["score"],
                    }
                }
            )
            for entry in ranked
        ]


if __name__ == "__main__":
    from langchain_core.runnables import RunnableLambda
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_embeddings import CoreEmbeddings

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    store = InMemoryVectorStore(CoreEmbeddings(model))
    store.add_texts(["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."])
    reranker = core.load_reranker("cross-encoder/ms-marco-MiniLM-L6-v2", backend="onnx")
    compressor = CoreReranker(model=reranker, top_k=1)
    retriever = store.as_retriever()
    search = RunnableLambda(
        lambda query: compressor.compress_documents(retriever.invoke(query), query)
    )
    print(search.invoke("weather")[0].page_content)
