"""The names of sentence-transformers, for code that runs with one import changed.

    from core.sentence_transformers import SentenceTransformer

    model = SentenceTransformer("all-MiniLM-L6-v2", backend="onnx")
    embeddings = model.encode(["one text", "another"])

Parameters, their order, defaults and file names follow sentence-transformers 6.2, older spellings
included. What is underneath is `core.load`; `model.embedding_model` is its `EmbeddingModel`.
docs/migration.md lists what differs and what is not here.
"""

from __future__ import annotations

from typing import Any

from core.sentence_transformers import util as util  # an attribute of the reference's package
from core.sentence_transformers.absent import ELSEWHERE, refuse_import
from core.sentence_transformers.backend import (
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from core.sentence_transformers.cross_encoder import CrossEncoder
from core.sentence_transformers.model import SentenceTransformer
from core.sentence_transformers.model_card import SentenceTransformerModelCardData
from core.sentence_transformers.multi_vector_encoder import MultiVectorEncoder
from core.sentence_transformers.quantization import quantize_embeddings
from core.sentence_transformers.similarity_functions import SimilarityFunction
from core.sentence_transformers.sparse_encoder import SparseEncoder

__all__ = [
    "CrossEncoder",
    "MultiVectorEncoder",
    "SentenceTransformer",
    "SentenceTransformerModelCardData",
    "SimilarityFunction",
    "SparseEncoder",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
    "quantize_embeddings",
]

#: The release of sentence-transformers whose names these are, for code that compares versions.
__version__ = "6.2.0"


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        refuse_import(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
