"""huggingface_hub's client, which posts to the address as it is given."""

from __future__ import annotations

import os

import numpy as np
from huggingface_hub import InferenceClient

URL = os.environ.get("CORE_EXAMPLE_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CORE_EXAMPLE_KEY", "none")


def embed(texts: list[str]) -> np.ndarray:
    # It takes one text, and passes several on as they are.
    return InferenceClient(URL, token=KEY).feature_extraction(texts)  # type: ignore[arg-type]


def compare(sentence: str, others: list[str]) -> list[float]:
    return InferenceClient(URL, token=KEY).sentence_similarity(sentence, others)


if __name__ == "__main__":
    print(embed(["one text", "another"]).shape)
    print(compare("a cat", ["a small animal", "a long night"]))
