"""Each library runs with all-MiniLM-L6-v2, and with a tiny reranker, on the onnx backend."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_embedders import CoreDocumentEmbedder, CoreTextEmbedder
from haystack_ranker import CoreRanker
from langchain_core.documents import Document as LangchainDocument
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_embeddings import CoreEmbeddings
from langchain_reranker import CoreReranker as LangchainReranker
from llama_index.core import Document as LlamaDocument
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_embedding import CoreEmbedding
from llama_index_reranker import CoreReranker as LlamaReranker
from scikit_learn_features import TextEmbeddings
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.preprocessing import FunctionTransformer

import core
from core import EmbeddingModel, Reranker
from core.sentence_transformers import SentenceTransformer

TEXTS = ["It is raining in Oslo.", "The stock market fell.", "Cats sleep all day."]
QUERY = "What is the weather like?"


@pytest.fixture(scope="module")
def model() -> Iterator[EmbeddingModel]:
    with core.load(os.environ["CORE_EXAMPLE_MODEL"], backend="onnx") as loaded:
        loaded.prompts.update(query="query: ", document="text: ")
        yield loaded


@pytest.fixture(scope="module")
def reranker() -> Iterator[Reranker]:
    with core.load_reranker(os.environ["CORE_EXAMPLE_RERANKER"], backend="onnx") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def best(reranker: Reranker) -> list[tuple[str, float]]:
    """The two best texts and their scores."""
    ranked = reranker.rank(QUERY, TEXTS, top_k=2, return_documents=True)
    return [(entry["text"], entry["score"]) for entry in ranked]


def test_langchain(model: EmbeddingModel) -> None:
    embeddings = CoreEmbeddings(model)
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    assert store.similarity_search(QUERY, k=1)[0].page_content == TEXTS[0]
    np.testing.assert_allclose(embeddings.embed_query(QUERY), model.encode_query(QUERY), atol=1e-5)
    assert np.shape(embeddings.embed_documents(TEXTS)) == (3, 384)


def test_langchain_reranker(reranker: Reranker, best: list[tuple[str, float]]) -> None:
    documents = [LangchainDocument(text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    found = LangchainReranker(model=reranker, top_k=2).compress_documents(documents, QUERY)
    assert [(d.page_content, d.metadata["relevance_score"]) for d in found] == best
    assert [d.metadata["n"] for d in found] == [TEXTS.index(text) for text, _ in best]
    assert all("relevance_score" not in document.metadata for document in documents)


def test_llama_index(model: EmbeddingModel) -> None:
    embedding = CoreEmbedding(model)
    documents = [LlamaDocument(text=text) for text in TEXTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=1).retrieve(QUERY)
    assert found[0].text == TEXTS[0]
    np.testing.assert_allclose(
        embedding.get_text_embedding_batch(TEXTS), model.encode_document(TEXTS), atol=1e-5
    )


def test_llama_index_reranker(reranker: Reranker, best: list[tuple[str, float]]) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    found = LlamaReranker(reranker, top_n=2).postprocess_nodes(nodes, query_str=QUERY)
    assert [(node.text, node.score) for node in found] == best
    with pytest.raises(ValueError, match="needs the query"):
        LlamaReranker(reranker).postprocess_nodes(nodes)


def test_haystack(model: EmbeddingModel) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    given = [*(Document(content=text) for text in TEXTS), Document(content=None, meta={"n": 1})]
    documents = CoreDocumentEmbedder(model).run(given)["documents"]
    assert [document.embedding is None for document in documents] == [False] * 3 + [True]
    store.write_documents(documents[:3])
    pipeline = Pipeline()
    pipeline.add_component("embedder", CoreTextEmbedder(model))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    found = pipeline.run({"embedder": {"text": QUERY}})["retriever"]["documents"]
    assert found[0].content == TEXTS[0]


def test_haystack_ranker(reranker: Reranker, best: list[tuple[str, float]]) -> None:
    documents = [*(Document(content=text) for text in TEXTS), Document(content=None)]
    pipeline = Pipeline()
    pipeline.add_component("ranker", CoreRanker(reranker, top_k=2))
    given = {"ranker": {"query": QUERY, "documents": documents}}
    found = pipeline.run(given)["ranker"]["documents"]
    assert [(document.content, document.score) for document in found] == best
    assert len(CoreRanker(reranker).run(QUERY, documents)["documents"]) == 3


def test_scikit_learn(model: EmbeddingModel) -> None:
    weather = [f"{word} is coming {when}" for word in ("rain", "snow") for when in ("soon", "now")]
    money = [f"{word} rose {when}" for word in ("shares", "prices") for when in ("today", "again")]
    texts, labels = weather + money, ["weather"] * 4 + ["money"] * 4
    pipeline = SklearnPipeline(
        [("embed", TextEmbeddings(model)), ("classify", LogisticRegression())]
    )
    search = GridSearchCV(pipeline, {"embed__truncate_dim": [32, None]}, cv=2).fit(texts, labels)
    asked = ["a storm tonight", "the bank and its rates"]
    assert search.predict(asked).tolist() == ["weather", "money"]
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert again.predict(asked).tolist() == ["weather", "money"]
    features = clone(TextEmbeddings(model, truncate_dim=16)).fit_transform(texts)
    assert features.shape == (8, 16)


def test_a_plain_function_in_scikit_learn() -> None:
    """No adapter: the drop-in model's `encode` is a function of a list of texts."""
    model = SentenceTransformer(os.environ["CORE_EXAMPLE_MODEL"], backend="onnx")
    transformer = FunctionTransformer(model.encode)
    np.testing.assert_array_equal(transformer.transform(TEXTS), model.encode(TEXTS))
