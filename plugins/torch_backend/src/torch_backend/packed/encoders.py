"""Encoders over packed tokens, made of the modules of transformers' own models.

What transformers computes for each token alone, its modules compute here as well; attention and
positions are ours, since those are what padding and bounds change. BERT, RoBERTa, XLM-RoBERTa,
CamemBERT, DistilBERT and ModernBERT: every other model keeps padded batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from torch_backend.packed.attention import ATTENTIONS, choose_attention
from torch_backend.packed.fusions import activated, is_plain, normed_sum
from torch_backend.packed.tokens import PackedTokens

_Linear = Callable[[torch.Tensor], torch.Tensor]


class _Layer(NamedTuple):
    """The steps of a layer that normalizes after each of its halves.

    Attributes:
        queries: Queries, keys and values side by side, [tokens, 3 x hidden].
        attended: The product after attention.
        first_norm: Of that and of the layer's input.
        inner: The feed-forward part's first product, activated.
        outer: Its second.
        second_norm: Of that and of what the feed-forward part began with.
    """

    queries: _Linear
    attended: _Linear
    first_norm: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    inner: _Linear
    outer: _Linear
    second_norm: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PackedEncoder(ABC):
    """Packed tokens to hidden states.

    Attributes:
        attention: The attention it computes with, of `ATTENTIONS`.
    """

    def __init__(self, module: Any, heads: int, hidden: int) -> None:
        weight = next(p for p in module.parameters() if p.is_floating_point())
        self._heads, self._head_size = heads, hidden // heads
        self.attention = choose_attention(weight.device, weight.dtype, self._head_size)

    @abstractmethod
    def __call__(self, tokens: PackedTokens) -> torch.Tensor:
        """The last hidden state, [tokens, hidden]."""

    def positions(self, batch: TokenBatch) -> NDArray[np.int64]:
        """int64 [batch, tokens], as the padded model counts them: columns."""
        return np.broadcast_to(np.arange(batch.width), batch.input_ids.shape)

    def _attend(
        self,
        queries: torch.Tensor,
        tokens: PackedTokens,
        window: int | None = None,
        turn: _Linear | None = None,
    ) -> torch.Tensor:
        """Attention on queries, keys and values side by side, [tokens, 3 x hidden].

        Args:
            turn: Applied to queries and keys, [tokens, heads, head size].
        """
        states = queries.view(len(queries), 3, self._heads, self._head_size)
        query, key, value = states.unbind(1)
        if turn is not None:
            query, key = turn(query), turn(key)
        attended = ATTENTIONS[self.attention](query, key, value, tokens, window)
        return attended.reshape(len(queries), -1)

    def _through(
        self, layers: Iterable[_Layer], hidden: torch.Tensor, tokens: PackedTokens
    ) -> torch.Tensor:
        for layer in layers:
            attended = self._attend(layer.queries(hidden), tokens)
            hidden = layer.first_norm(layer.attended(attended), hidden)
            hidden = layer.second_norm(layer.outer(layer.inner(hidden)), hidden)
        return hidden


class _Bert(PackedEncoder):
    """BERT: positions are columns."""

    def __init__(self, module: Any, fused: bool) -> None:
        super().__init__(module, module.config.num_attention_heads, module.config.hidden_size)
        self._embeddings = module.embeddings
        self._embedded = normed_sum(module.embeddings.LayerNorm, fused)
        self._layers = [
            _Layer(
                side_by_side(own.query, own.key, own.value),
                after.dense,
                normed_sum(after.LayerNorm, fused),
                activated(inner.dense, inner.intermediate_act_fn, fused),
                layer.output.dense,
                normed_sum(layer.output.LayerNorm, fused),
            )
            for layer in module.encoder.layer
            for own, after in ((layer.attention.self, layer.attention.output),)
            for inner in (layer.intermediate,)
        ]

    def __call__(self, tokens: PackedTokens) -> torch.Tensor:
        parts = self._embeddings
        hidden = parts.word_embeddings(tokens.ids)
        if tokens.types is None:
            hidden = hidden + parts.token_type_embeddings.weight[0]
        else:
            hidden = hidden + parts.token_type_embeddings(tokens.types)
        hidden = self._embedded(hidden, parts.position_embeddings(tokens.positions))
        return self._through(self._layers, hidden, tokens)


class _Roberta(_Bert):
    """RoBERTa: positions count the tokens that are not padding, from `padding_idx + 1` on."""

    def positions(self, batch: TokenBatch) -> NDArray[np.int64]:
        padding = int(self._embeddings.padding_idx)
        counted = batch.input_ids != padding
        return np.asarray(np.cumsum(counted, axis=1) * counted + padding, dtype=np.int64)


class _DistilBert(PackedEncoder):
    def __init__(self, module: Any, fused: bool) -> None:
        super().__init__(module, module.config.n_heads, module.config.dim)
        self._embeddings = module.embeddings
        self._embedded = normed_sum(module.embeddings.LayerNorm, fused)
        self._layers = [
            _Layer(
                side_by_side(own.q_lin, own.k_lin, own.v_lin),
                own.out_lin,
                normed_sum(layer.sa_layer_norm, fused),
                activated(layer.ffn.lin1, layer.ffn.activation, fused),
                layer.ffn.lin2,
                normed_sum(layer.output_layer_norm, fused),
            )
            for layer in module.transformer.layer
            for own in (layer.attention,)
        ]

    def __call__(self, tokens: PackedTokens) -> torch.Tensor:
        parts = self._embeddings
        words = parts.word_embeddings(tokens.ids)
        hidden = self._embedded(words, parts.position_embeddings(tokens.positions))
        return self._through(self._layers, hidden, tokens)


class _ModernBert(PackedEncoder):
    """ModernBERT: rotary positions, and layers that attend to a window."""

    def __init__(self, module: Any, fused: bool) -> None:
        config = module.config
        super().__init__(module, config.num_attention_heads, config.hidden_size)
        self._module = module
        self._window = int(config.sliding_window)  # to each side

    def __call__(self, tokens: PackedTokens) -> torch.Tensor:
        module = self._module
        hidden = module.embeddings(input_ids=tokens.ids)
        turns = {
            kind: self._turn(*module.rotary_emb(hidden[None], tokens.positions[None], kind))
            for kind in {layer.attention_type for layer in module.layers}
        }
        for layer in module.layers:
            kind = layer.attention_type
            window = self._window if kind == "sliding_attention" else None
            queries = layer.attn.Wqkv(layer.attn_norm(hidden))
            hidden = hidden + layer.attn.Wo(self._attend(queries, tokens, window, turns[kind]))
            hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
        result: torch.Tensor = module.final_norm(hidden)
        return result

    @staticmethod
    def _turn(cos: torch.Tensor, sin: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Rotary position embedding (https://arxiv.org/abs/2104.09864), in float32."""
        cos, sin = cos[0][:, None].float(), sin[0][:, None].float()

        def turn(states: torch.Tensor) -> torch.Tensor:
            exact = states.float()
            first, second = exact.chunk(2, dim=-1)
            turned = torch.cat((-second, first), dim=-1)
            return (exact * cos + turned * sin).to(states.dtype)

        return turn


def side_by_side(*layers: torch.nn.Module) -> _Linear:
    """Linear layers of the same input as one, their outputs side by side."""
    if not all(is_plain(layer, torch.nn.Linear) for layer in layers):
        return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)
    plain: Sequence[Any] = layers
    weight = torch.cat([layer.weight.detach() for layer in plain])
    bias = torch.cat([layer.bias.detach() for layer in plain])
    return lambda x: torch.nn.functional.linear(x, weight, bias)


_ENCODERS: Mapping[str, type[_Bert | _DistilBert | _ModernBert]] = {
    "BertModel": _Bert,
    "RobertaModel": _Roberta,
    "XLMRobertaModel": _Roberta,
    "CamembertModel": _Roberta,
    "DistilBertModel": _DistilBert,
    "ModernBertModel": _ModernBert,
}


def packed_encoder(module: torch.nn.Module, *, fused: bool = False) -> PackedEncoder | None:
    """The module over packed tokens; None for a model that is not known well enough.

    Args:
        fused: Whether steps between products are computed together; see `fusions`.
    """
    kind, config = type(module), getattr(module, "config", None)
    known = _ENCODERS.get(kind.__name__)
    if known is None or not kind.__module__.startswith("transformers.models."):
        return None
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return None
    # Of transformers 4, where BERT could count distances and ModernBERT was built differently.
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        return None
    if known is _ModernBert and not (
        hasattr(module, "rotary_emb") and isinstance(getattr(config, "sliding_window", None), int)
    ):
        return None
    return known(module, fused)
