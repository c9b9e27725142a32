"""Where and in what a model computes, and how to compute elsewhere: by loading it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import OptionError, UnsupportedOperation
from core.model import EmbeddingModel
from core.sentence_transformers.arguments import Device, plain

_DTYPES = ("float32", "float16", "bfloat16")


def device_of(model: EmbeddingModel) -> Any:
    """A `torch.device` where torch runs the model, else its name."""
    own = getattr(model.runtime, "tensor_device", None)
    return Device(model.device) if own is None else own


def dtype_of(model: EmbeddingModel) -> Any:
    """A `torch.dtype` where torch runs the model, else its name."""
    if getattr(model.runtime, "tensor_device", None) is None:
        return model.dtype
    import torch

    return getattr(torch, model.dtype)


def place_of(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any]:
    """Device and dtype of a call of `to`, each a name or None."""
    unknown = set(named) - {"device", "dtype", "non_blocking", "copy"}
    if unknown or len(arguments) > 2:
        raise OptionError(f"to takes device and dtype, not {sorted(unknown) or arguments[2:]}.")
    device, dtype = plain(named.get("device")), plain(named.get("dtype"))
    for value in arguments:
        name = plain(value)
        if name in (*_DTYPES, "float64"):
            dtype = name
        elif name is not None:
            device = f"cuda:{name}" if isinstance(value, int) else name
    return device, dtype


def moved(model: EmbeddingModel, device: str | None, dtype: str | None) -> EmbeddingModel:
    """The model itself where nothing changes, else the same one loaded again.

    Raises:
        UnsupportedOperation: The backend computes what its file holds, not another dtype.
    """
    if device is not None and _same_device(model.device, device):
        device = None
    if dtype == model.dtype:
        dtype = None
    if device is None and dtype is None:
        return model
    load_again, (arguments, state) = model.__reduce__()
    arguments = dict(arguments)
    if device is not None:
        arguments["device"] = device
    if dtype is not None:
        arguments["model_kwargs"] = _with_dtype(model, dtype, arguments["model_kwargs"])
    other: EmbeddingModel = load_again(arguments, state)
    model.close()
    return other


def _with_dtype(model: EmbeddingModel, dtype: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if dtype not in _DTYPES:
        raise OptionError(f"A model computes in one of {', '.join(_DTYPES)}, not {dtype!r}.")
    if "dtype" not in model.hooks.capabilities.model_kwargs:
        raise UnsupportedOperation(
            f"The {model.backend} backend computes what its file holds: {model.dtype}. For float16 "
            "write such a file and load it: core.optimize(model.embedding_model, 'fp16')."
        )
    return {**{n: v for n, v in given.items() if n != "torch_dtype"}, "dtype": dtype}


def _same_device(first: str, second: str) -> bool:
    def complete(name: str) -> str:
        name = name.lower()
        return f"{name}:0" if name in ("cuda", "xpu", "mps") else name

    return complete(first) == complete(second)


def transformers_tokenizer(model: EmbeddingModel) -> Any:
    """`AutoTokenizer` of the model's files, cut where the model cuts."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UnsupportedOperation(
            "model.tokenizer is transformers' tokenizer, which is not installed: "
            "`pip install transformers`. Without it, model.tokenize(texts) gives the tokens."
        ) from error
    source = model.source
    beside = [n for n in source.names if n.rpartition("/")[0] == source.architecture.path]
    small = [n for n in beside if n.endswith((".json", ".txt", ".model", ".vocab"))]
    folder = source.folder(small) / source.architecture.path
    found = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    if model.max_seq_length is not None:
        found.model_max_length = model.max_seq_length
    return found
