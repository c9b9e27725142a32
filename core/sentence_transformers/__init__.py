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

from core.sentence_transformers.arguments import NotImportable, SimilarityFunction
from core.sentence_transformers.exports import (
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from core.sentence_transformers.model import SentenceTransformer
from core.sentence_transformers.quantization import quantize_embeddings

__all__ = [
    "SentenceTransformer",
    "SimilarityFunction",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
    "quantize_embeddings",
]

_ELSEWHERE = {
    "CrossEncoder": "scoring pairs of texts",
    "SparseEncoder": "sparse embeddings",
    "MultiVectorEncoder": "late interaction",
    "InputExample": "training",
    "SentenceTransformerModelCardData": "training",
    "SentenceTransformerTrainer": "training",
    "SentenceTransformerTrainingArguments": "training",
    "losses": "training",
    "datasets": "training",
    "evaluation": "evaluation",
    "util": "mining and search over embeddings",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise NotImportable(
            f"core.sentence_transformers has no {name}: core embeds texts, and {_ELSEWHERE[name]} "
            f"is outside it. Import {name} from sentence_transformers; models saved by either load "
            "in the other."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
