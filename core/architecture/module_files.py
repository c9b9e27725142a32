"""The modules after the transformer, read from their folders: configuration and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.architecture.activations import ACTIVATIONS
from core.architecture.modules import (
    POOLING_MODES,
    Dense,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
)
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source
from core.files.weights import Tensors, read_folder

#: A pooling mode's flag in configuration files older than the list of modes.
POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def positive_number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these settings that is a positive integer."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def read_module(source: Source, name: str, path: str, weights: bool) -> Module | None:
    """The module of class `name` in the folder `path`; None where it does nothing here.

    Without `weights` no weight file is opened: tensors have their shapes and hold zeros.

    Raises:
        ModelFormatError: Its configuration or weights are missing or do not fit.
        UnsupportedOperation: It is configured in a way that is not run here.
    """
    if name == "Pooling":
        return _read_pooling(source, path)
    if name == "Normalize":
        return Normalize()
    if name == "Dense":
        return _read_dense(source, path, weights)
    if name == "LayerNorm":
        return _read_layer_norm(source, path, weights)
    if name == "Dropout":
        return None
    raise ModelFormatError(f"{source}: {name} can only be the first module.")


def _module_config(source: Source, path: str) -> dict[str, Any]:
    name = f"{path}/config.json" if path else "config.json"
    if not source.has(name):
        raise ModelFormatError(
            f"{source}: modules.json names the folder {path!r}, but {name} is missing."
        )
    content: dict[str, Any] = source.read_json(name)
    return content


def pooling_width(source: Source, path: str) -> int:
    """Width of the token embeddings a pooling folder states; 0 where it states none."""
    config = _module_config(source, path)
    return positive_number(config, "embedding_dimension", "word_embedding_dimension") or 0


def _read_pooling(source: Source, path: str) -> Pooling:
    config = _module_config(source, path)
    modes = config.get("pooling_mode")
    if modes is None:
        # Legacy: a mode is on when its flag says so; with no flag at all, the old default.
        modes = [mode for mode, flag in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    if isinstance(modes, str):
        modes = [modes]
    unknown = [m for m in modes if m not in POOLING_MODES] if isinstance(modes, list) else [modes]
    if unknown or not modes:
        raise ModelFormatError(
            f"{source}: {path}/config.json has the pooling mode {unknown or modes!r}; known are "
            f"{', '.join(POOLING_MODES)}."
        )
    return Pooling(modes=tuple(modes), include_prompt=config.get("include_prompt", True) is True)


def _read_layer_norm(source: Source, path: str, weights: bool) -> LayerNorm:
    if not weights:
        width = positive_number(_module_config(source, path), "dimension") or 0
        return LayerNorm(_zeros(width), _zeros(width))
    tensors = read_folder(source, path, f"module {path!r}")
    weight = _tensor(source, path, tensors, "norm.weight")
    return LayerNorm(weight, _tensor(source, path, tensors, "norm.bias", weight.shape))


def _read_dense(source: Source, path: str, weights: bool) -> Dense:
    config = _module_config(source, path)
    kind = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, activation = kind.rpartition(".")
    if package.split(".")[0] != "torch" or activation not in ACTIVATIONS:
        raise UnsupportedOperation(
            f"{source}: {path} uses the activation {kind!r}; known are torch's "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    shape = [positive_number(config, name) or 0 for name in ("out_features", "in_features")]
    tensors = read_folder(source, path, f"module {path!r}") if weights else {}
    weight = _tensor(source, path, tensors, "linear.weight") if weights else _zeros(*shape)
    if weight.ndim != 2:
        raise ModelFormatError(f"{source}: linear.weight of {path} has shape {weight.shape}.")
    outputs = weight.shape[:1]
    bias = None
    if config.get("bias", True) and weights:
        bias = _tensor(source, path, tensors, "linear.bias", outputs)
    residual = None
    use_residual = bool(config.get("use_residual", False))
    if use_residual and weights and weight.shape[0] != weight.shape[1]:
        residual = _tensor(source, path, tensors, "residual.weight", weight.shape)
    given = str(config.get("module_input_name") or "sentence_embedding")
    made = str(config.get("module_output_name") or given)
    known = ("sentence_embedding", "token_embeddings")
    if given not in known or made not in known:
        raise UnsupportedOperation(
            f"{source}: {path} maps {given!r} to {made!r}; known are {', '.join(known)}."
        )
    return Dense(weight, bias, activation, given, made, use_residual, residual)


def _zeros(*shape: int) -> Any:
    return np.broadcast_to(np.float32(0), shape)  # no memory, whatever the file claims


def _tensor(
    source: Source,
    path: str,
    weights: Tensors,
    name: str,
    shape: tuple[int, ...] | None = None,
) -> Any:
    if name not in weights:
        raise ModelFormatError(
            f"{source}: the weights of {path!r} hold no {name!r}, only "
            f"{', '.join(sorted(weights))}."
        )
    tensor = weights[name]
    if shape is not None and tensor.shape != shape:
        raise ModelFormatError(
            f"{source}: {name} of {path!r} has shape {tensor.shape}; its configuration asks for "
            f"{shape}."
        )
    return np.ascontiguousarray(tensor, dtype=np.float32)
