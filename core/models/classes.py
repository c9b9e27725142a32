"""Which class of model belongs to each kind."""

from __future__ import annotations

from collections.abc import Mapping

from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE
from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.models.multi_vector import MultiVectorEncoder
from core.models.reranker import Reranker
from core.models.sparse import SparseEncoder

#: Kind to the class of its models, which a `load` hook returns.
MODEL_CLASSES: Mapping[str, type[Model]] = {
    EMBEDDING: EmbeddingModel,
    RERANKER: Reranker,
    SPARSE: SparseEncoder,
    MULTI_VECTOR: MultiVectorEncoder,
}
