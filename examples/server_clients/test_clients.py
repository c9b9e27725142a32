"""Every client gets what `encode` gives; scripts/server_clients.py starts the server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import openai
import pytest
import with_haystack
import with_huggingface_hub
import with_langchain
import with_llama_index
import with_openai
from langchain_openai import OpenAIEmbeddings

FOLDER = Path(os.environ["CORE_EXAMPLE_EXPECTED"])
TEXTS: list[str] = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
EXPECTED = np.load(FOLDER / "expected.npy")


def check(found: object, expected: np.ndarray = EXPECTED) -> None:
    np.testing.assert_allclose(np.array(found), expected, atol=1e-5)


def test_openai() -> None:
    check(with_openai.embed(TEXTS))


def test_openai_shortened() -> None:
    client = openai.OpenAI(base_url=f"{with_openai.URL}/v1", api_key=with_openai.KEY)
    answer = client.embeddings.create(model="any", input=TEXTS, dimensions=64)
    short = EXPECTED[:, :64]
    short = short / np.linalg.norm(short, axis=1, keepdims=True)
    check([one.embedding for one in answer.data], short)


def test_openai_errors() -> None:
    client = openai.OpenAI(base_url=f"{with_openai.URL}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.embeddings.create(model="any", input="a")
    client = openai.OpenAI(base_url=f"{with_openai.URL}/v1", api_key=with_openai.KEY)
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions=10000"):
        client.embeddings.create(model="any", input="a", dimensions=10_000)
    assert client.models.list().data[0].id


def test_huggingface_hub() -> None:
    check(with_huggingface_hub.embed(TEXTS))
    check(with_huggingface_hub.embed(TEXTS[0]), EXPECTED[:1])  # type: ignore[arg-type]
    check(with_huggingface_hub.compare(TEXTS[0], TEXTS), EXPECTED @ EXPECTED[0])


def test_langchain() -> None:
    check(with_langchain.embeddings().embed_documents(TEXTS))
    check(with_langchain.embeddings().embed_query(TEXTS[0]), EXPECTED[0])


def test_langchain_that_sends_token_ids_is_told_what_to_do() -> None:
    assert "check_embedding_ctx_length" in OpenAIEmbeddings.model_fields
    client = openai.OpenAI(base_url=f"{with_openai.URL}/v1", api_key=with_openai.KEY)
    # What it sends without the option; tiktoken, which makes them, would download its vocabulary.
    ids = [[9906, 1917], [64]]
    with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="any", input=ids)


def test_llama_index() -> None:
    check(with_llama_index.as_openai().get_text_embedding_batch(TEXTS))
    check(with_llama_index.as_tei().get_text_embedding_batch(TEXTS))


def test_haystack() -> None:
    check(with_haystack.embed_documents(TEXTS))
    check(with_haystack.embed_query(TEXTS[0]), EXPECTED[0])
