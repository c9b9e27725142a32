from __future__ import annotations

import os

import pytest

from core.testing import BackendConformance


class TestHttp(BackendConformance):
    backend = "http"
    model = "served"
    lacks = {"save", "token_embeddings", "long_texts"}  # noqa: RUF012

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, server: str, served_model: str) -> None:
        import core

        texts = ["A reference text.", "Another one, naïve 机器."]
        serving = os.environ.get("HTTP_BACKEND_SERVES", "torch")
        with core.load(served_model, backend=serving) as direct:
            cls.reference = dict(zip(texts, direct.encode(texts), strict=True))
        kwargs = {"base_url": server, "api_key": "secret"}
        cls.load_arguments = {"model_kwargs": kwargs}
