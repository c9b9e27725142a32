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
from core.architecture.settings import flag, stated_size, text
from core.architecture.sparse_modules import (
    SPLADE_ACTIVATIONS,
    SPLADE_STRATEGIES,
    SparseAutoEncoder,
    SpladePooling,
)
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source
from core.files.weights import Tensors, checked_weights, read_folder, read_tensor

#: A pooling mode's flag in configuration files older than the list of modes.
POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}

#: How many activations an autoencoder keeps whose configuration does not say.
_USUAL_KEPT = 256


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
        return _read_normalize(source, path)
    if name == "Dense":
        return _read_dense(source, path, weights)
    if name == "LayerNorm":
        return _read_layer_norm(source, path, weights)
    if name == "Dropout":
        return None
    if name == "SpladePooling":
        return _read_splade_pooling(source, path)
    if name == "SparseAutoEncoder":
        return _read_autoencoder(source, path, weights)
    raise ModelFormatError(f"{source}: {name} can only be the first module.")


def _where(source: Source, path: str) -> str:
    return f"{source}: {path}/config.json" if path else f"{source}: config.json"


def read_module_config(source: Source, path: str) -> dict[str, Any]:
    """The config.json of a module's folder.

    Raises:
        ModelFormatError: It is missing.
    """
    name = f"{path}/config.json" if path else "config.json"
    if not source.has(name):
        raise ModelFormatError(
            f"{source}: modules.json names the folder {path!r}, but {name} is missing."
        )
    content: dict[str, Any] = source.read_json(name)
    return content


def pooling_width(source: Source, path: str) -> int:
    """Width of the token embeddings a pooling folder states; 0 where it states none."""
    config, where = read_module_config(source, path), _where(source, path)
    return stated_size(config, where, "embedding_dimension", "word_embedding_dimension") or 0


def _read_pooling(source: Source, path: str) -> Pooling:
    config, where = read_module_config(source, path), _where(source, path)
    modes = config.get("pooling_mode")
    # Read whichever spelling counts: a wrong value is a damaged file.
    on = [mode for mode, name in POOLING_FLAGS.items() if flag(config, where, name, False)]
    if modes is None:
        # Legacy: a mode is on when its flag says so; with no flag at all, the old default.
        modes = on or ["mean"]
    if isinstance(modes, str):
        modes = [modes]
    unknown = [m for m in modes if m not in POOLING_MODES] if isinstance(modes, list) else [modes]
    if unknown or not modes:
        raise ModelFormatError(
            f"{where} has the pooling mode {unknown or modes!r}; known are "
            f"{', '.join(POOLING_MODES)}."
        )
    return Pooling(modes=tuple(modes), include_prompt=flag(config, where, "include_prompt", True))


def _read_layer_norm(source: Source, path: str, weights: bool) -> LayerNorm:
    width = stated_size(read_module_config(source, path), _where(source, path), "dimension")
    if not weights:
        return LayerNorm(_zeros(width or 0), _zeros(width or 0))
    tensors = read_folder(source, path, f"module {path!r}")
    weight = _tensor(source, path, tensors, "norm.weight", (width,))
    return LayerNorm(weight, _tensor(source, path, tensors, "norm.bias", weight.shape))


def _read_dense(source: Source, path: str, weights: bool) -> Dense:
    config, where = read_module_config(source, path), _where(source, path)
    kind = text(config, where, "activation_function", "torch.nn.modules.activation.Tanh")
    package, _, activation = kind.rpartition(".")
    if package.split(".")[0] != "torch" or activation not in ACTIVATIONS:
        raise UnsupportedOperation(
            f"{source}: {path} uses the activation {kind!r}; known are torch's "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    has_bias = flag(config, where, "bias", True)
    use_residual = flag(config, where, "use_residual", False)
    shape = tuple(stated_size(config, where, name) for name in ("out_features", "in_features"))
    tensors = read_folder(source, path, f"module {path!r}") if weights else {}
    if weights:
        weight = _tensor(source, path, tensors, "linear.weight", shape)
    else:
        weight = _zeros(*(size or 0 for size in shape))
    bias = None
    if has_bias and weights:
        bias = _tensor(source, path, tensors, "linear.bias", weight.shape[:1])
    residual = None
    if use_residual and weights and weight.shape[0] != weight.shape[1]:
        residual = _tensor(source, path, tensors, "residual.weight", weight.shape)
    given, made = _read_names(source, path, config)
    return Dense(weight, bias, activation, given, made, use_residual, residual)


def _read_normalize(source: Source, path: str) -> Normalize:
    """Only newer ones have a configuration; without it they scale the sentence embedding."""
    if not path or not source.has(f"{path}/config.json"):
        return Normalize()
    given, made = _read_names(source, path, read_module_config(source, path))
    if given != made:
        raise UnsupportedOperation(
            f"{source}: the Normalize in {path!r} makes {made!r} of {given!r}; core scales either "
            "in place."
        )
    return Normalize(given)


def _read_names(source: Source, path: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """What a module reads, and what it writes."""
    where = _where(source, path)
    given = text(config, where, "module_input_name", "sentence_embedding")
    made = text(config, where, "module_output_name", given)
    known = ("sentence_embedding", "token_embeddings")
    if given not in known or made not in known:
        raise UnsupportedOperation(
            f"{source}: {path} maps {given!r} to {made!r}; known are {', '.join(known)}."
        )
    return given, made


def read_inner_projection(source: Source, width: int, inputs: int, weights: bool) -> Dense:
    """The projection of token embeddings that lies among the transformer's weights, as
    `linear.weight`: Stanford's ColBERT has it there.

    Args:
        width, inputs: What other files state of its size; 0 where they state nothing.
    """
    if weights:
        tensors = {"linear.weight": read_tensor(source, "linear.weight")}
        weight = _tensor(source, "", tensors, "linear.weight", (width or None, inputs or None))
    else:
        weight = _zeros(width, inputs)
    return Dense(weight, None, "Identity", "token_embeddings", "token_embeddings")


def _read_splade_pooling(source: Source, path: str) -> SpladePooling:
    config, where = read_module_config(source, path), _where(source, path)
    strategy = text(config, where, "pooling_strategy", "max")
    activation = text(config, where, "activation_function", "relu")
    for name, value, known in (
        ("pooling_strategy", strategy, SPLADE_STRATEGIES),
        ("activation_function", activation, SPLADE_ACTIVATIONS),
    ):
        if value not in known:
            raise UnsupportedOperation(
                f"{where}: {name} is {value!r}; known are {', '.join(known)}."
            )
    return SpladePooling(strategy, activation)


def _read_autoencoder(source: Source, path: str, weights: bool) -> SparseAutoEncoder:
    config, where = read_module_config(source, path), _where(source, path)
    inputs, hidden = (stated_size(config, where, name) for name in ("input_dim", "hidden_dim"))
    k = stated_size(config, where, "k") or _USUAL_KEPT
    normalize = flag(config, where, "normalize", False)
    if not weights:
        shape = hidden or 0, inputs or 0
        return SparseAutoEncoder(_zeros(*shape), _zeros(shape[1]), _zeros(shape[0]), k, normalize)
    tensors = read_folder(source, path, f"module {path!r}")
    # One tensor under two names, of which safetensors keeps the last.
    names = ("encoder.weight", "decoder.linear.weight")
    name = next((name for name in names if name in tensors), names[0])
    weight = _tensor(source, path, tensors, name, (hidden, inputs))
    pre_bias = _tensor(source, path, tensors, "pre_bias", weight.shape[1:])
    latent_bias = _tensor(source, path, tensors, "latent_bias", weight.shape[:1])
    return SparseAutoEncoder(weight, pre_bias, latent_bias, k, normalize)


def _zeros(*shape: int) -> Any:
    return np.broadcast_to(np.float32(0), shape)  # no memory, whatever the file claims


def _tensor(
    source: Source,
    path: str,
    weights: Tensors,
    name: str,
    shape: tuple[int | None, ...],
) -> Any:
    """A tensor of a module, float32; a size of None in `shape` may be any.

    Raises:
        ModelFormatError: It is missing, of another shape, or not of finite fractions.
    """
    if name not in weights:
        raise ModelFormatError(
            f"{source}: the weights of {path!r} hold no {name!r}, only "
            f"{', '.join(sorted(weights))}."
        )
    tensor = weights[name]
    fits = tensor.ndim == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        asked = ", ".join("any" if size is None else str(size) for size in shape)
        raise ModelFormatError(
            f"{source}: {name} of {path!r} has shape {tensor.shape}; its configuration asks for "
            f"({asked}{',' if len(shape) == 1 else ''})."
        )
    return checked_weights(tensor, f"{source}: {name} of {path!r}")
