"""The reference's name for `core.sentence_transformers.quantization`."""

from __future__ import annotations

from core.sentence_transformers.quantization import quantize_embeddings

__all__ = ["quantize_embeddings"]
