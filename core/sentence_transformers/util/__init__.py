"""The functions of the reference's `util` that compare, search and shorten embeddings."""

from __future__ import annotations

from typing import Any

from core.sentence_transformers.absent import refuse_import
from core.sentence_transformers.late_interaction import (
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
)
from core.sentence_transformers.quantization import quantize_embeddings
from core.sentence_transformers.similarity_functions import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)
from core.sentence_transformers.util.retrieval import semantic_search
from core.sentence_transformers.util.tensor import (
    batch_to_device,
    normalize_embeddings,
    select_max_active_dims,
    to_scipy_coo,
    truncate_embeddings,
)

__all__ = [
    "SimilarityFunction",
    "batch_to_device",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "maxsim",
    "maxsim_pairwise",
    "mean_maxsim",
    "mean_maxsim_pairwise",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "select_max_active_dims",
    "semantic_search",
    "to_scipy_coo",
    "truncate_embeddings",
]

#: The older name.
pytorch_cos_sim = cos_sim

_ELSEWHERE = {
    "LoggingHandler": "a handler of log records",
    "community_detection": "clustering",
    "http_get": "downloading",
    "information_retrieval": "mining",
    "is_sentence_transformer_model": "looking for models",
    "mine_hard_negatives": "training",
    "pairwise_angle_sim": "training",
    "paraphrase_mining": "mining",
    "paraphrase_mining_embeddings": "mining",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        refuse_import(f"util.{name}", _ELSEWHERE[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
