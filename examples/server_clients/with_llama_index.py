"""LlamaIndex's clients for OpenAI's interface and for Text Embeddings Inference's."""

from __future__ import annotations

import os

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

URL = os.environ.get("CORE_EXAMPLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CORE_EXAMPLE_KEY", "none")


def as_openai() -> OpenAILikeEmbedding:
    return OpenAILikeEmbedding(model_name="all-MiniLM-L6-v2", api_base=f"{URL}/v1", api_key=KEY)


def as_tei() -> TextEmbeddingsInference:
    return TextEmbeddingsInference(model_name="all-MiniLM-L6-v2", base_url=URL, auth_token=KEY)


if __name__ == "__main__":
    print(len(as_openai().get_text_embedding("one text")))
    print(len(as_tei().get_text_embedding("one text")))
