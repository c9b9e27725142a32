"""The hooks. The entry point names a class: core makes one instance of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import core
from core.errors import OptionError

if TYPE_CHECKING:
    from core import Checkpoint, EmbeddingModel, EncodeOptions, LoadOptions


class HttpBackend:
    """Models are names that the server knows."""

    SPEC_VERSION = 1
    SOURCE = "name"
    DEVICES = ("server",)
    MODEL_KWARGS = (
        "base_url", "api_key", "batch_size", "workers", "timeout", "retries", "dimensions",
    )  # fmt: skip

    @core.hookimpl
    def load(self, source: Checkpoint, options: LoadOptions) -> EmbeddingModel:
        from http_backend.client import Client, Settings

        given = dict(options.model_kwargs)
        base_url = given.pop("base_url", None) or os.environ.get("OPENAI_BASE_URL")
        if not base_url:
            raise OptionError(
                "The http backend needs the server's address: pass "
                "model_kwargs={'base_url': 'http://host/v1'}, or set OPENAI_BASE_URL."
            )
        key = given.pop("api_key", None) or os.environ.get("OPENAI_API_KEY", "")
        settings = Settings(base_url=base_url, api_key=key, model=source.name, **given)
        return core.EmbeddingModel(source, Client(settings), device="server")

    @core.hookimpl
    def encode(self, model: EmbeddingModel, texts: Sequence[str], options: EncodeOptions) -> Any:
        import numpy as np

        if options.output_value == "token_embeddings":
            raise core.UnsupportedOperation("Servers give no token embeddings.")
        if not texts:
            return np.empty((0, model.full_dimension), dtype=np.float32)
        client = model.runtime
        if options.batch_size or options.workers:
            client = client.with_settings(
                dataclasses.replace(
                    client.settings,
                    batch_size=options.batch_size or client.settings.batch_size,
                    workers=options.workers or client.settings.workers,
                )
            )
        return client.embed(texts)
