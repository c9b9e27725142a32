"""Haystack: any reranker of core as the ranker of a pipeline."""

from __future__ import annotations

from dataclasses import replace

from haystack import Document, component

from core import Reranker


@component
class CoreRanker:
    """The best documents first, with the reranker's scores; documents without text are left out.

    Args:
        top_k: How many documents to keep; None for all.
    """

    def __init__(self, model: Reranker, top_k: int | None = None) -> None:
        self.model = model
        self.top_k = top_k

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        with_text = [document for document in documents if document.content is not None]
        texts = [document.content for document in with_text]
        ranked = self.model.rank(query, texts, top_k=top_k or self.top_k)
        return {
            "documents": [
                replace(with_text[entry["corpus_id"]], score=entry["score"]) for entry in ranked
            ]
        }


if __name__ == "__main__":
    import core

    reranker = core.load_reranker("cross-encoder/ms-marco-MiniLM-L6-v2", backend="onnx")
    texts = ["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."]
    ranker = CoreRanker(reranker, top_k=1)
    found = ranker.run("weather", [Document(content=text) for text in texts])
    print(found["documents"][0].content)
