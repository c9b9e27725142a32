"""Pooling and the modules after it as part of the graph, so that [batch, dimension] comes out.

Each module is written with OpenVINO's operations exactly as core/modules.py computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.toolkit import Dense, LayerNorm, Module, Normalize, Pooling
from openvino_backend.graph import SENTENCE_OUTPUT
from openvino_backend.imports import openvino

ops = openvino.opset13

Node = Any
Graph = Any


def append_modules(graph: Graph, modules: Sequence[Module]) -> Graph | None:
    """The graph of token embeddings with the modules behind it; weights are shared.

    None where that cannot be done: no attention mask among the inputs, prompts left out of
    pooling (their length is known only per call), or a module that has no operation here.
    """
    masks = [port for port in graph.inputs if "attention_mask" in port.get_names()]
    if not masks or not all(_fits(module) for module in modules):
        return None
    tokens = graph.outputs[0].get_node().input_value(0)
    features: dict[str, Node] = {
        "token_embeddings": ops.convert(tokens, "f32"),
        "mask": ops.convert(masks[0].get_node().output(0), "f32"),
    }
    for module in modules:
        _APPLY[type(module)](module, features)
    result = ops.result(features["sentence_embedding"], name=SENTENCE_OUTPUT)
    fused = openvino.Model([result], graph.get_parameters(), graph.get_friendly_name())
    fused.outputs[0].get_tensor().set_names({SENTENCE_OUTPUT})
    return fused


def _fits(module: Module) -> bool:
    if isinstance(module, Pooling):
        return module.include_prompt
    if isinstance(module, Dense):
        return module.activation in _ACTIVATIONS
    return type(module) in _APPLY


def _pool(module: Pooling, features: dict[str, Node]) -> None:
    tokens, mask = features["token_embeddings"], features["mask"]
    pooled = [_POOL[mode](tokens, mask) for mode in module.modes]
    features["sentence_embedding"] = pooled[0] if len(pooled) == 1 else ops.concat(pooled, 1)


def _masked_sum(tokens: Node, weights: Node) -> Node:
    return ops.squeeze(ops.matmul(ops.unsqueeze(weights, 1), tokens, False, False), _axes(1))


def _count(mask: Node) -> Node:
    return ops.maximum(ops.reduce_sum(mask, _axes(1), True), np.float32(1e-9))


def _mean(tokens: Node, mask: Node) -> Node:
    return ops.divide(_masked_sum(tokens, mask), _count(mask))


def _mean_sqrt_len(tokens: Node, mask: Node) -> Node:
    return ops.divide(_masked_sum(tokens, mask), ops.sqrt(_count(mask)))


def _weightedmean(tokens: Node, mask: Node) -> Node:
    weights = ops.multiply(ops.cum_sum(mask, np.int64(1)), mask)
    return ops.divide(_masked_sum(tokens, weights), _count(weights))


def _max(tokens: Node, mask: Node) -> Node:
    lowest = ops.multiply(ops.subtract(mask, np.float32(1.0)), np.float32(np.finfo(np.float32).max))
    shown = ops.multiply(tokens, ops.unsqueeze(mask, 2))
    highest = ops.reduce_max(ops.add(shown, ops.unsqueeze(lowest, 2)), _axes(1), False)
    # A row without a single token gives zeros, as with the other modes.
    return ops.multiply(highest, ops.reduce_max(mask, _axes(1), True))


def _cls(tokens: Node, mask: Node) -> Node:
    # A stable search finds the first of the largest values: the first 1 of the mask, or column 0.
    return _at(tokens, ops.topk(mask, _one(), 1, "max", "value", stable=True).output(1))


def _lasttoken(tokens: Node, mask: Node) -> Node:
    # Running counts grow up to the last real token: the first place of their maximum.
    counts = ops.multiply(ops.cum_sum(mask, np.int64(1)), mask)
    last = ops.topk(counts, _one(), 1, "max", "value", stable=True).output(1)
    return ops.multiply(_at(tokens, last), ops.reduce_max(mask, _axes(1), True))


def _at(tokens: Node, index: Node) -> Node:
    """tokens [batch, tokens, hidden] at index [batch, 1]: [batch, hidden]."""
    return ops.squeeze(ops.gather(tokens, index, np.int64(1), 1), _axes(1))


def _axes(axis: int) -> Node:
    return ops.constant(np.array([axis], dtype=np.int64))


def _one() -> Node:
    return ops.constant(np.int64(1))


_POOL: Mapping[str, Callable[[Node, Node], Node]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}


def _normalize(module: Normalize, features: dict[str, Node]) -> None:
    x = features["sentence_embedding"]
    length = ops.sqrt(ops.reduce_sum(ops.multiply(x, x), _axes(1), True))
    features["sentence_embedding"] = ops.divide(x, ops.maximum(length, np.float32(1e-12)))


def _dense(module: Dense, features: dict[str, Node]) -> None:
    x = features[module.input_name]
    out = ops.matmul(x, _weight(module.weight), False, True)
    if module.bias is not None:
        out = ops.add(out, _weight(module.bias))
    out = _ACTIVATIONS[module.activation](out)
    if module.use_residual:
        residual = x
        if module.residual is not None:
            residual = ops.matmul(x, _weight(module.residual), False, True)
        out = ops.add(out, residual)
    features[module.output_name] = out


def _layer_norm(module: LayerNorm, features: dict[str, Node]) -> None:
    normalized = ops.mvn(features["sentence_embedding"], _axes(1), True, 1e-5, "inside_sqrt")
    features["sentence_embedding"] = ops.add(
        ops.multiply(normalized, _weight(module.weight)), _weight(module.bias)
    )


def _weight(array: Any) -> Node:
    return ops.constant(np.ascontiguousarray(array, dtype=np.float32))


_ACTIVATIONS: Mapping[str, Callable[[Node], Node]] = {
    "Identity": lambda x: x,
    "Tanh": ops.tanh,
    "ReLU": ops.relu,
    "GELU": lambda x: ops.gelu(x, "erf"),
    "GELUTanh": lambda x: ops.gelu(x, "tanh"),
    "Sigmoid": ops.sigmoid,
    "SiLU": lambda x: ops.multiply(x, ops.sigmoid(x)),
    "Mish": ops.mish,
    "LeakyReLU": lambda x: ops.prelu(x, np.float32(0.01)),
    "ELU": lambda x: ops.elu(x, 1.0),
    "Softplus": ops.softplus,
}

_APPLY: Mapping[type, Callable[[Any, dict[str, Node]], None]] = {
    Pooling: _pool,
    Normalize: _normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
}
