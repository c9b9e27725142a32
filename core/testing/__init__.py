"""The contract of a backend as a test suite: subclass `BackendConformance` and run pytest.

from core.testing import BackendConformance


class TestMine(BackendConformance):
    backend = "mine"
    model = "name or directory of a small model"
    reference = {"a text": [0.12, ...]}

`tiny_model()` is such a model, a directory of files, and `tiny_reference()` its reference. A
backend that states the kind "reranker" subclasses `RerankerConformance` as well, for which there
are `tiny_reranker()` and `tiny_reranker_reference()`; one that states "sparse" subclasses
`SparseConformance`, for which there are `tiny_sparse()` and `tiny_sparse_reference()`; one that
states "multi_vector" `MultiVectorConformance`, with `tiny_multi_vector()` and
`tiny_multi_vector_reference()`.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError("core.testing runs in pytest, which is missing: `pip install pytest`.") from (
        error
    )

for _module in (
    "encoding",
    "loading",
    "multi_vector",
    "reranking",
    "saving",
    "sharing",
    "sparse_encoding",
    "subject",
    "wrapping",
):
    # So that a failed assertion shows its values, as in test files.
    pytest.register_assert_rewrite(f"core.testing.{_module}")

from core.testing.conformance import BackendConformance  # noqa: E402
from core.testing.multi_vector import MultiVectorConformance  # noqa: E402
from core.testing.reranking import RerankerConformance  # noqa: E402
from core.testing.sparse_encoding import SparseConformance  # noqa: E402
from core.testing.tiny import (  # noqa: E402
    tiny_model,
    tiny_multi_vector,
    tiny_multi_vector_reference,
    tiny_reference,
    tiny_reranker,
    tiny_reranker_reference,
    tiny_sparse,
    tiny_sparse_reference,
)

__all__ = [
    "BackendConformance",
    "MultiVectorConformance",
    "RerankerConformance",
    "SparseConformance",
    "tiny_model",
    "tiny_multi_vector",
    "tiny_multi_vector_reference",
    "tiny_reference",
    "tiny_reranker",
    "tiny_reranker_reference",
    "tiny_sparse",
    "tiny_sparse_reference",
]
