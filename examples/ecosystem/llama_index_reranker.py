"""LlamaIndex: any reranker of core as a node postprocessor."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from core import Reranker


class CoreReranker(BaseNodePostprocessor):
    """The best nodes first, with the reranker's scores; their text is what an embedding gets.

    Args:
        top_n: How many nodes to keep; None for all.
    """

    top_n: int | None = None
    _model: Reranker = PrivateAttr()

    def __init__(self, model: Reranker, top_n: int | None = None, **arguments: Any) -> None:
        super().__init__(top_n=top_n, **arguments)
        self._model = model

    @classmethod
    def class_name(cls) -> str:
        return "CoreReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("CoreReranker needs the query: pass query_str or query_bundle.")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = self._model.rank(query_bundle.query_str, texts, top_k=self.top_n)
        return [
            NodeWithScore(node=nodes[entry["corpus_id"]].node, score=entry["score"])
            for entry in ranked
        ]


if __name__ == "__main__":
    from llama_index.core import Document, VectorStoreIndex
    from llama_index_embedding import CoreEmbedding

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    texts = ["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."]
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in texts], embed_model=CoreEmbedding(model)
    )
    reranker = core.load_reranker("cross-encoder/ms-marco-MiniLM-L6-v2", backend="onnx")
    found = index.as_retriever(similarity_top_k=3).retrieve("weather")
    best = CoreReranker(reranker, top_n=1).postprocess_nodes(found, query_str="weather")
    print(best[0].text)
