"""The modules after the transformer: pooling, dense, layer norm, normalize.

One implementation serves numpy and torch: the functions take the array namespace (`numpy` or
`torch`) and use only names and arguments both spell the same way.

Formulas and configuration names are those of sentence-transformers' modules of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from core.architecture.batch import TokenBatch

#: The order in which several modes are concatenated.
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


Features = dict[str, Any]


class Module(Protocol):
    """A step of the chain. `features` holds `token_embeddings` [batch, tokens, hidden], `mask`
    and, after pooling, `sentence_embedding` [batch, dimension]."""

    def __call__(self, xp: Any, features: Features) -> None: ...

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> Module:
        """The same module with its weights mapped (to a device, to another array type)."""
        ...


@dataclass(frozen=True)
class Pooling:
    """Token embeddings to one vector a text.

    Attributes:
        modes: Of `POOLING_MODES`; several are concatenated.
        include_prompt: Whether the prompt's tokens take part.
    """

    modes: tuple[str, ...]
    include_prompt: bool = True

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> Pooling:
        return self

    def __call__(self, xp: Any, features: Features) -> None:
        tokens, mask = features["token_embeddings"], features["mask"]
        if not self.include_prompt:
            mask = features["pooling_mask"]
        pooled = [_POOL[mode](xp, tokens, mask, features["mask"]) for mode in self.modes]
        features["sentence_embedding"] = (
            pooled[0] if len(pooled) == 1 else xp.concatenate(pooled, axis=-1)
        )


def _masked_sum(tokens: Any, weights: Any) -> Any:
    # A batched [1, tokens] @ [tokens, hidden]: no [batch, tokens, hidden] temporary.
    return (weights[:, None, :] @ tokens)[:, 0, :]


def _cls(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    first = xp.argmax(mask, axis=1)
    return tokens[xp.arange(tokens.shape[0]), first]


def _max(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    highest = xp.amax(xp.where(mask[:, :, None] > 0, tokens, -math.inf), axis=1)
    # A row without a single token gives zeros, as with the other modes.
    return xp.where(mask.sum(axis=1)[:, None] > 0, highest, 0.0)


def _mean(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    return _masked_sum(tokens, mask) / xp.clip(mask.sum(axis=1), 1e-9, None)[:, None]


def _mean_sqrt_len(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    return _masked_sum(tokens, mask) / xp.sqrt(xp.clip(mask.sum(axis=1), 1e-9, None))[:, None]


def _weightedmean(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    # Weights 1, 2, ... count from the first real token, the prompt's tokens included.
    weights = xp.cumsum(full_mask, axis=1) * mask
    return _masked_sum(tokens, weights) / xp.clip(weights.sum(axis=1), 1e-9, None)[:, None]


def _lasttoken(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    width = mask.shape[1]
    last = width - 1 - xp.argmax(xp.flip(mask, (1,)), axis=1)
    rows = xp.arange(tokens.shape[0])
    # A row without a single token gives zeros.
    return tokens[rows, last] * mask[rows, last][:, None]


_POOL: Mapping[str, Callable[[Any, Any, Any, Any], Any]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}


@dataclass(frozen=True)
class Normalize:
    """Scale each sentence embedding to length 1; a zero vector stays zero."""

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> Normalize:
        return self

    def __call__(self, xp: Any, features: Features) -> None:
        features["sentence_embedding"] = unit_length(xp, features["sentence_embedding"])


def unit_length(xp: Any, embeddings: Any) -> Any:
    """[n, dimension] scaled to length 1 row by row; lengths under 1e-12 divide by 1e-12."""
    length = xp.sqrt((embeddings * embeddings).sum(axis=-1))[..., None]
    return embeddings / xp.clip(length, 1e-12, None)


@dataclass(frozen=True)
class Dense:
    """`activation(x @ weight.T + bias)`, optionally plus a residual.

    Attributes:
        weight: float32 [out_features, in_features].
        bias: float32 [out_features] or None.
        residual: float32 [out_features, in_features]: the residual's own projection; None with
            `use_residual` adds the input itself.
    """

    weight: Any
    bias: Any | None
    activation: str
    input_name: str = "sentence_embedding"
    output_name: str = "sentence_embedding"
    use_residual: bool = False
    residual: Any | None = None

    @property
    def out_features(self) -> int:
        return int(self.weight.shape[0])

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> Dense:
        return replace(
            self,
            weight=to_array(self.weight),
            bias=None if self.bias is None else to_array(self.bias),
            residual=None if self.residual is None else to_array(self.residual),
        )

    def __call__(self, xp: Any, features: Features) -> None:
        x = features[self.input_name]
        out = x @ self.weight.T
        if self.bias is not None:
            out = out + self.bias
        out = ACTIVATIONS[self.activation](xp, out)
        if self.use_residual:
            out = out + (x if self.residual is None else x @ self.residual.T)
        features[self.output_name] = out


def _gelu(xp: Any, x: Any) -> Any:
    if xp is np:
        erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2.0)).astype(np.float32)
    else:
        erf = xp.erf(x / math.sqrt(2.0))
    return 0.5 * x * (1.0 + erf)


def _gelu_tanh(xp: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _sigmoid(xp: Any, x: Any) -> Any:
    return 0.5 * (1.0 + xp.tanh(0.5 * x))


def _softplus(xp: Any, x: Any) -> Any:
    return xp.log1p(xp.exp(-xp.abs(x))) + xp.clip(x, 0.0, None)


#: torch.nn activation class to its function, with the class's default arguments.
ACTIVATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "Identity": lambda xp, x: x,
    "Tanh": lambda xp, x: xp.tanh(x),
    "ReLU": lambda xp, x: xp.clip(x, 0.0, None),
    "GELU": _gelu,
    "GELUTanh": _gelu_tanh,
    "Sigmoid": _sigmoid,
    "SiLU": lambda xp, x: x * _sigmoid(xp, x),
    "Mish": lambda xp, x: x * xp.tanh(_softplus(xp, x)),
    "LeakyReLU": lambda xp, x: xp.where(x > 0, x, 0.01 * x),
    "ELU": lambda xp, x: xp.where(x > 0, x, xp.expm1(xp.clip(x, None, 0.0))),
    "Softplus": _softplus,
}


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation of the sentence embedding, epsilon 1e-5 (torch.nn.LayerNorm's)."""

    weight: Any
    bias: Any

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> LayerNorm:
        return replace(self, weight=to_array(self.weight), bias=to_array(self.bias))

    def __call__(self, xp: Any, features: Features) -> None:
        x = features["sentence_embedding"]
        centred = x - x.mean(axis=-1)[..., None]
        variance = (centred * centred).mean(axis=-1)[..., None]
        features["sentence_embedding"] = (
            centred / xp.sqrt(variance + 1e-5) * self.weight + self.bias
        )


def run_modules(
    xp: Any,
    modules: Sequence[Module],
    token_embeddings: Any,
    batch: TokenBatch,
    to_array: Callable[[NDArray[np.float32]], Any] | None = None,
    sentence_embedding: Any = None,
) -> Any:
    """Run the chain on float32 token embeddings [batch, tokens, hidden].

    `sentence_embedding` [batch, dimension] is given where something pooled already.
    `to_array` moves the float32 masks to where the token embeddings are. A float32 mask matters:
    an integer one would turn the sums into float64.
    """
    mask: Any = batch.attention_mask.astype(np.float32)
    pooling_mask: Any = mask
    if batch.prompt_tokens:
        pooling_mask = batch.pooling_mask.astype(np.float32)
    if to_array is not None:
        converted = to_array(mask)
        pooling_mask = converted if pooling_mask is mask else to_array(pooling_mask)
        mask = converted
    features: Features = {
        "token_embeddings": token_embeddings,
        "mask": mask,
        "pooling_mask": pooling_mask,
        "sentence_embedding": sentence_embedding,
    }
    for module in modules:
        module(xp, features)
    return features["sentence_embedding"]


def pools_prompt(modules: Sequence[Module]) -> bool:
    """Whether the prompt's tokens take part in pooling."""
    return all(m.include_prompt for m in modules if isinstance(m, Pooling))
