"""OpenAI's own client."""

from __future__ import annotations

import os

from openai import OpenAI

URL = os.environ.get("CORE_EXAMPLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CORE_EXAMPLE_KEY", "none")


def embed(texts: list[str]) -> list[list[float]]:
    client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts)
    return [one.embedding for one in answer.data]


if __name__ == "__main__":
    print(len(embed(["one text", "another"])))
