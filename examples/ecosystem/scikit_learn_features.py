"""scikit-learn: texts to features, in a pipeline that can be cloned, searched over and pickled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from core import EmbeddingModel


class TextEmbeddings(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds texts; nothing is learned.

    Args:
        model: From `core.load`. Pickling and cloning load it again from the same source.
        truncate_dim: Leading dimensions to keep: a parameter to search over.
    """

    def __init__(self, model: EmbeddingModel, truncate_dim: int | None = None) -> None:
        self.model = model
        self.truncate_dim = truncate_dim

    def fit(self, texts: Sequence[str], y: Any = None) -> Self:
        self.n_features_out_ = self.truncate_dim or self.model.dimension
        return self

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self.model.encode(texts, truncate_dim=self.truncate_dim)
        return result

    def __sklearn_is_fitted__(self) -> bool:
        return True


if __name__ == "__main__":
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    import core

    model = core.load("sentence-transformers/all-MiniLM-L6-v2", backend="onnx")
    texts = ["rain and wind", "sun all day", "a storm is coming", "shares fell", "profits rose"]
    labels = ["weather", "weather", "weather", "money", "money"]
    classifier = make_pipeline(TextEmbeddings(model), LogisticRegression()).fit(texts, labels)
    print(classifier.predict(["snow tomorrow", "the bank raised its rates"]))
