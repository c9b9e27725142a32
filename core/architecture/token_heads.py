"""Heads of an embedding model beside its module chain: sparse and multi-vector embeddings.

A head is a linear layer on the transformer's token embeddings, in a file of its own beside the
transformer's. Files and formulas are those of FlagEmbedding (M3-Embedding, arXiv:2402.03216):

- `sparse_linear.pt`: `relu(x @ weight.T + bias)` is the weight of each token; a word of the
  vocabulary has the largest of its tokens' weights.
- `colbert_linear.pt`: `x @ weight.T + bias` scaled to length 1 is the vector of each token but
  the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.activations import ACTIVATIONS
from core.architecture.modules import Dense, Module, run_modules, unit_length
from core.errors import ModelFormatError
from core.files.source import Source
from core.files.weights import checked_weights, read_weights
from core.options import DENSE, MULTI_VECTOR, SPARSE

if TYPE_CHECKING:
    from core.architecture.batch import TokenBatch

#: The file of each head.
HEAD_FILES: Mapping[str, str] = {SPARSE: "sparse_linear.pt", MULTI_VECTOR: "colbert_linear.pt"}
#: What a graph calls the result of each head: [batch, tokens] and [batch, tokens, dimension].
HEAD_OUTPUTS: Mapping[str, str] = {SPARSE: "token_weights", MULTI_VECTOR: "token_vectors"}


@dataclass(frozen=True)
class TokenHeads:
    """The heads of a model; at least one of them.

    Attributes:
        sparse: To one number a token, [1, hidden].
        multi_vector: To a vector a token, [dimension, hidden].
    """

    sparse: Dense | None = None
    multi_vector: Dense | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Which there are, of `HEAD_FILES`."""
        return tuple(name for name in HEAD_FILES if getattr(self, name) is not None)

    def convert(self, to_array: Callable[[NDArray[np.float32]], Any]) -> TokenHeads:
        """The same heads with their weights mapped (to a device, to another array type)."""
        return TokenHeads(**{name: getattr(self, name).convert(to_array) for name in self.names})

    def __call__(self, xp: Any, name: str, token_embeddings: Any) -> Any:
        """What a head gives for the transformer's last hidden state [batch, tokens, hidden].

        Args:
            xp: The array namespace, as for `core.architecture.modules`.

        Returns:
            For the sparse head [batch, tokens], for the other [batch, tokens, dimension]; what
            stands at padding means nothing.
        """
        features = {"token_embeddings": token_embeddings}
        getattr(self, name)(xp, features)
        return finish_head(xp, name, features["projected"])


def finish_head(xp: Any, name: str, projected: Any) -> Any:
    """What a head gives, of what its linear layer makes of the token embeddings."""
    if name == SPARSE:
        return ACTIVATIONS["ReLU"](xp, projected).squeeze(-1)
    return unit_length(xp, projected)


def read_token_heads(source: Source, prefix: str, hidden: int, weights: bool) -> TokenHeads | None:
    """The heads whose files lie beside the transformer; None where there is none.

    Without `weights` no file is opened: the tensors have no size.

    Args:
        hidden: Width of the transformer's token embeddings; 0 where no file states it.

    Raises:
        ModelFormatError: A file is not that of such a head, or of another model's.
    """
    heads = {
        name: _read_head(source, f"{prefix}{file}", name, hidden, weights)
        for name, file in HEAD_FILES.items()
        if source.has(f"{prefix}{file}")
    }
    return TokenHeads(**heads) if heads else None


def _read_head(source: Source, file: str, name: str, hidden: int, weights: bool) -> Dense:
    if not weights:
        nothing = np.empty((0, hidden), np.float32)
        return Dense(nothing, None, "Identity", "token_embeddings", "projected")
    tensors = read_weights(source.path(file))
    weight, bias = tensors.get("weight"), tensors.get("bias")
    shape = None if weight is None else weight.shape
    fits = (
        weight is not None
        and weight.ndim == 2
        and weight.shape[1] == (hidden or weight.shape[1])
        and weight.shape[0] == (1 if name == SPARSE else weight.shape[0])
        and (bias is None or bias.shape == weight.shape[:1])
    )
    if weight is None or not fits:
        rows = "1" if name == SPARSE else "dimension"
        raise ModelFormatError(
            f"{source}: {file} must hold a linear layer's weight [{rows}, {hidden or 'hidden'}], "
            f"and its bias if it has one, for the model's {name} embeddings; it holds "
            f"{', '.join(sorted(tensors)) or 'nothing'}"
            f"{'' if shape is None else f', weight of shape {list(shape)}'}. Restore or download "
            "it again, or remove it to do without these embeddings."
        )
    return Dense(
        checked_weights(weight, f"{source}: weight in {file}"),
        None if bias is None else checked_weights(bias, f"{source}: bias in {file}"),
        "Identity",
        "token_embeddings",
        "projected",
    )


def run_outputs(
    xp: Any,
    modules: Sequence[Module],
    heads: TokenHeads | None,
    names: Sequence[str],
    token_embeddings: Any,
    batch: TokenBatch,
    to_array: Callable[[NDArray[np.float32]], Any] | None = None,
) -> dict[str, Any]:
    """Several kinds of embeddings of one last hidden state, float32 [batch, tokens, hidden].

    Returns:
        For each of `names`: of the module chain [batch, dimension], of a head as the head gives it.
    """
    found = {}
    for name in names:
        if name == DENSE:
            found[name] = run_modules(xp, modules, token_embeddings, batch, to_array)
        else:
            assert heads is not None
            found[name] = heads(xp, name, token_embeddings)
    return found
