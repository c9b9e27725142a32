"""A server as one writes it in an afternoon: FastAPI and sentence-transformers.

    python peers.py MODEL --port N

Each request encodes its own texts in a thread of FastAPI's pool. It runs in an environment with
fastapi, uvicorn and sentence-transformers, and knows nothing of core.
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class EmbeddingsRequest(BaseModel):
    """OpenAI's body."""

    input: str | list[str]
    model: str = ""


def make_app(name: str) -> FastAPI:
    """The application, its model loaded."""
    model = SentenceTransformer(name, device="cpu")
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embeddings(request: EmbeddingsRequest) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        rows = model.encode(texts, show_progress_bar=False)
        data = [
            {"object": "embedding", "index": index, "embedding": row.tolist()}
            for index, row in enumerate(rows)
        ]
        return {"object": "list", "data": data, "model": request.model}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    uvicorn.run(make_app(given.model), port=given.port, log_level="warning")
