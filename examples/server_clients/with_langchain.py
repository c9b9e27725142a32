"""LangChain's client for OpenAI's interface."""

from __future__ import annotations

import os

from langchain_openai import OpenAIEmbeddings

URL = os.environ.get("CORE_EXAMPLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CORE_EXAMPLE_KEY", "none")


def embeddings() -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="all-MiniLM-L6-v2",
        base_url=f"{URL}/v1",
        api_key=KEY,
        # Texts, not token ids of a vocabulary that the model does not have.
        check_embedding_ctx_length=False,
    )


if __name__ == "__main__":
    print(len(embeddings().embed_query("one text")))
