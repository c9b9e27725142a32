"""The reference's package of multi-vector models: what of it runs here."""

from __future__ import annotations

from core.sentence_transformers.late_interaction import maxsim, maxsim_pairwise
from core.sentence_transformers.multi_vector_encoder.model import MultiVectorEncoder

__all__ = ["MultiVectorEncoder", "maxsim", "maxsim_pairwise"]
