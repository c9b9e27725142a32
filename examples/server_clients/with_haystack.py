"""Haystack's embedders for OpenAI's interface."""

from __future__ import annotations

import os

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

URL = os.environ.get("CORE_EXAMPLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CORE_EXAMPLE_KEY", "none")


def embed_documents(texts: list[str]) -> list[list[float]]:
    embedder = OpenAIDocumentEmbedder(
        api_key=Secret.from_token(KEY), model="all-MiniLM-L6-v2", api_base_url=f"{URL}/v1"
    )
    documents = embedder.run([Document(content=text) for text in texts])["documents"]
    return [document.embedding for document in documents]


def embed_query(text: str) -> list[float]:
    embedder = OpenAITextEmbedder(
        api_key=Secret.from_token(KEY), model="all-MiniLM-L6-v2", api_base_url=f"{URL}/v1"
    )
    return embedder.run(text)["embedding"]


if __name__ == "__main__":
    print(len(embed_documents(["one text", "another"])))
