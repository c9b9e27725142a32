"""The modules that make sparse embeddings, for any array namespace.

Formulas and configuration names are those of sentence-transformers' modules of the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.modules import Features

SPLADE_STRATEGIES = ("max", "sum")

SPLADE_ACTIVATIONS = ("relu", "log1p_relu")


@dataclass(frozen=True)
class SpladePooling:
    """Logits of every token over the vocabulary to one weight a word: `log1p(relu(logits))`, the
    maximum or the sum over the tokens.

    The transformer's logits [batch, tokens, vocabulary] stand in `token_embeddings`. A text without
    tokens has no words.

    Attributes:
        strategy: Of `SPLADE_STRATEGIES`.
        activation: Of `SPLADE_ACTIVATIONS`; `"log1p_relu"` takes the logarithm once more.
    """

    strategy: str = "max"
    activation: str = "relu"

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> SpladePooling:
        return self

    def __call__(self, xp: Any, features: Features) -> None:
        logits, mask = features["token_embeddings"], features["mask"]
        features["sentence_embedding"] = self.pooled(xp, logits, mask)

    def pooled(self, xp: Any, logits: Any, mask: Any) -> Any:
        """[batch, vocabulary] of logits [batch, tokens, vocabulary] and float32 [batch, tokens]."""
        if self.strategy == "sum":
            # A batched [1, tokens] @ [tokens, vocabulary]: no second array of that size.
            return (mask[:, None, :] @ self.weights(xp, logits)).squeeze(1)
        # The weights grow with the logits, so the maximum comes first. Padding counts as 0, which
        # no weight is under.
        return self.weights(xp, xp.amax(logits * mask[:, :, None], axis=1))

    def weights(self, xp: Any, logits: Any) -> Any:
        """The weights that logits stand for, of the same shape."""
        result = xp.log1p(xp.clip(logits, 0.0, None))
        return xp.log1p(result) if self.activation == "log1p_relu" else result


@dataclass(frozen=True)
class SparseAutoEncoder:
    """The activations of a sparse autoencoder's hidden layer (CSR), of which the largest are kept.

    Which are kept is chosen afterwards, by `max_active_dims`: none that is 0 or less.

    Attributes:
        weight: float32 [hidden, input], the encoder's.
        pre_bias: float32 [input].
        latent_bias: float32 [hidden].
        k: How many are kept unless told otherwise.
        normalize: Whether embeddings are standardized first: less their mean, by their standard
            deviation (of a sample) and 1e-5.
    """

    weight: Any
    pre_bias: Any
    latent_bias: Any
    k: int
    normalize: bool = False

    @property
    def out_features(self) -> int:
        return int(self.weight.shape[0])

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> SparseAutoEncoder:
        return replace(
            self,
            weight=to_array(self.weight),
            pre_bias=to_array(self.pre_bias),
            latent_bias=to_array(self.latent_bias),
        )

    def __call__(self, xp: Any, features: Features) -> None:
        x = features["sentence_embedding"]
        if self.normalize:
            centred = x - x.mean(axis=-1, keepdims=True)
            width = int(self.weight.shape[1])
            squares = (centred * centred).sum(axis=-1, keepdims=True)
            x = centred / (xp.sqrt(squares / max(width - 1, 1)) + 1e-5)
        activations = (x - self.pre_bias) @ self.weight.T + self.latent_bias
        features["sentence_embedding"] = xp.clip(activations, 0.0, None)
