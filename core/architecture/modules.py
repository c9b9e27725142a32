"""The modules after the transformer: pooling, dense, layer norm, normalize.

One implementation serves numpy, torch and the graphs of other runtimes: the functions take the
array namespace (`numpy`, `torch` or `core.architecture.graph_functions`) and use only names and
arguments that all of them spell the same way.

Formulas and configuration names are those of sentence-transformers' modules of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.architecture import graph_functions
from core.architecture.activations import ACTIVATIONS
from core.architecture.graph import GraphArray, GraphBuilder
from core.errors import UnsupportedOperation

if TYPE_CHECKING:
    from core.architecture.batch import TokenBatch

#: The order in which several modes are concatenated.
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

_TOKENS = "token_embeddings"

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
    return (weights[:, None, :] @ tokens).squeeze(1)


def _total(xp: Any, weights: Any) -> Any:
    """The sums of the rows, [batch, 1], to divide by."""
    return xp.clip(weights.sum(axis=1, keepdims=True), 1e-9, None)


def _rows_at(xp: Any, values: Any, index: Any) -> Any:
    """`values[i, index[i]]` for every row i."""
    if xp is graph_functions:
        return xp.rows_at(values, index)
    return values[xp.arange(values.shape[0]), index]


def _or_zeros(xp: Any, pooled: Any, mask: Any) -> Any:
    """`pooled`, but zeros for a row without a single token: padding says nothing of a text."""
    return xp.where(mask.sum(axis=1, keepdims=True) > 0, pooled, 0.0)


def _cls(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    return _or_zeros(xp, _rows_at(xp, tokens, xp.argmax(mask, axis=1)), mask)


def _max(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    highest = xp.amax(xp.where(mask[:, :, None] > 0, tokens, -math.inf), axis=1)
    return _or_zeros(xp, highest, mask)


def _mean(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    return _masked_sum(tokens, mask) / _total(xp, mask)


def _mean_sqrt_len(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    return _masked_sum(tokens, mask) / xp.sqrt(_total(xp, mask))


def _weightedmean(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    # Weights 1, 2, ... count from the first real token, the prompt's tokens included.
    weights = xp.cumsum(full_mask, axis=1) * mask
    return _masked_sum(tokens, weights) / _total(xp, weights)


def _lasttoken(xp: Any, tokens: Any, mask: Any, full_mask: Any) -> Any:
    # The running count is at its highest from the last token on.
    last = xp.argmax(xp.cumsum(mask, axis=1), axis=1)
    return _or_zeros(xp, _rows_at(xp, tokens, last), mask)


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
    """Scale each sentence embedding to length 1; a zero vector stays zero.

    Attributes:
        input_name: Or `"token_embeddings"`, to scale those.
    """

    input_name: str = "sentence_embedding"

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> Normalize:
        return self

    def __call__(self, xp: Any, features: Features) -> None:
        features[self.input_name] = unit_length(xp, features[self.input_name])


def unit_length(xp: Any, embeddings: Any) -> Any:
    """[..., dimension] scaled to length 1 row by row; lengths under 1e-12 divide by 1e-12."""
    length = xp.sqrt((embeddings * embeddings).sum(axis=-1, keepdims=True))
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


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalization of the sentence embedding, epsilon 1e-5 (torch.nn.LayerNorm's)."""

    weight: Any
    bias: Any

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> LayerNorm:
        return replace(self, weight=to_array(self.weight), bias=to_array(self.bias))

    def __call__(self, xp: Any, features: Features) -> None:
        x = features["sentence_embedding"]
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
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


def run_sentence_modules(xp: Any, modules: Sequence[Module], sentence_embedding: Any) -> Any:
    """Run modules that come after pooling alone: float32 [batch, dimension] to the same of the
    last of them.

    `follows_pooling` tells whether there are others among them.
    """
    features: Features = {"sentence_embedding": sentence_embedding}
    for module in modules:
        module(xp, features)
    return features["sentence_embedding"]


def follows_pooling(module: Module) -> bool:
    """Whether a module takes and gives nothing but sentence embeddings."""
    if isinstance(module, Normalize):
        return module.input_name == "sentence_embedding"
    if isinstance(module, Dense):
        return {module.input_name, module.output_name} == {"sentence_embedding"}
    return isinstance(module, LayerNorm)


def of_tokens(modules: Sequence[Module]) -> list[Module]:
    """Those of the modules that change token embeddings."""
    return [module for module in modules if getattr(module, "input_name", None) == _TOKENS]


def run_token_modules(xp: Any, modules: Sequence[Module], token_embeddings: Any) -> Any:
    """Run modules of token embeddings alone: float32 [batch, tokens, hidden] to [batch, tokens,
    dimension]."""
    features: Features = {"token_embeddings": token_embeddings}
    for module in modules:
        module(xp, features)
    return features["token_embeddings"]


def append_token_modules(
    builder: GraphBuilder, modules: Sequence[Module], token_embeddings: Any
) -> Any:
    """Add modules of token embeddings alone to a graph: the builder's values, float32.

    Raises:
        UnsupportedOperation: A module, or a function of it, has no operation in a graph.
    """
    features: Features = {"token_embeddings": GraphArray(builder, token_embeddings, 3)}
    _run_in_graph(modules, features)
    return features["token_embeddings"].value


def append_modules(
    builder: GraphBuilder,
    modules: Sequence[Module],
    token_embeddings: Any,
    mask: Any,
    pooling_mask: Any,
) -> Any:
    """Add the chain to a graph; everything but `modules` is the builder's: its values, float32.

    Args:
        token_embeddings: [batch, tokens, hidden].
        mask: [batch, tokens], 1 for real tokens.
        pooling_mask: The same without the prompt's tokens; read by modules that leave them out.

    Returns:
        The sentence embeddings, [batch, dimension].

    Raises:
        UnsupportedOperation: A module, or a function of it, has no operation in a graph.
    """
    features: Features = {
        "token_embeddings": GraphArray(builder, token_embeddings, 3),
        "mask": GraphArray(builder, mask, 2),
        "pooling_mask": GraphArray(builder, pooling_mask, 2),
    }
    _run_in_graph(modules, features)
    if "sentence_embedding" not in features:
        names = ", ".join(type(module).__name__ for module in modules)
        raise UnsupportedOperation(f"The modules ({names}) pool nothing that a graph could give.")
    return features["sentence_embedding"].value


def _run_in_graph(modules: Sequence[Module], features: Features) -> None:
    for module in modules:
        try:
            module(graph_functions, features)
        except (AttributeError, KeyError, TypeError) as error:
            raise UnsupportedOperation(
                f"The module {type(module).__name__} cannot be part of a graph: {error}."
            ) from error


def pools_prompt(modules: Sequence[Module]) -> bool:
    """Whether the prompt's tokens take part in pooling."""
    return all(m.include_prompt for m in modules if isinstance(m, Pooling))
