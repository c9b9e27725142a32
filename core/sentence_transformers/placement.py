"""Where and in what a model computes, and how to compute elsewhere: by loading it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Self

from core.errors import OptionError, UnsupportedOperation
from core.models.model import Model
from core.sentence_transformers.absent import NotProvided
from core.sentence_transformers.arguments import plain

_DTYPES = ("float32", "float16", "bfloat16")


class Device(str):
    """A device's name with the two attributes code reads of a `torch.device`."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    @property
    def type(self) -> str:
        """Without the number: "cuda" of "cuda:1"."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The number, or None."""
        number = self.partition(":")[2]
        return int(number) if number.isdigit() else None


class Placement:
    """`to`, `half` and similar methods: the model is loaded again where it will compute."""

    embedding_model: Any

    @property
    def device(self) -> Any:
        """A `torch.device`, where torch is imported and knows the device; else its name."""
        return device_of(self.embedding_model)

    @property
    def _target_device(self) -> Any:
        """`device`, its older name."""
        return self.device

    @property
    def dtype(self) -> Any:
        """A `torch.dtype` with the torch backend; else its name."""
        return dtype_of(self.embedding_model)

    def to(self, *arguments: Any, **named: Any) -> Self:
        """Compute on another device or in another dtype: the model is loaded again there.

        An `EmbeddingModel` that was taken out before stays as it is.

        Raises:
            UnsupportedOperation: The backend computes what its file holds.
        """
        device, dtype = place_of(arguments, named)
        self.embedding_model = moved(self.embedding_model, device, dtype)
        return self

    def half(self) -> Self:
        """Compute in float16."""
        return self.to(dtype="float16")

    def bfloat16(self) -> Self:
        """Compute in bfloat16."""
        return self.to(dtype="bfloat16")

    def float(self) -> Self:
        """Compute in float32."""
        return self.to(dtype="float32")

    def cpu(self) -> Self:
        """Compute on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Compute on an NVIDIA GPU."""
        return self.to(
            "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device
        )

    def share_memory(self) -> Self:
        """Nothing: processes load the model by themselves."""
        return self

    training = False

    def eval(self) -> Self:
        """Nothing: a model here only infers."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Only `train(False)`: training is outside core."""
        if mode:
            raise NotProvided(
                f"{type(self).__name__}.train is not in core. Train with sentence_transformers, "
                "and load what it saved here."
            )
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Only `requires_grad_(False)`."""
        return self.train(requires_grad)


def device_of(model: Model) -> Any:
    """A `torch.device`, where torch is imported and knows the device; else its name."""
    own = getattr(model.runtime, "tensor_device", None)
    if own is not None:
        return own
    name = Device(model.device.lower())
    torch = sys.modules.get("torch")
    if torch is None:
        return name
    try:
        return torch.device(str(name))
    except RuntimeError:  # OpenVINO's "gpu", "auto"
        return name


def dtype_of(model: Model) -> Any:
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


def moved(model: Model, device: str | None, dtype: str | None) -> Any:
    """The model itself where nothing changes, else the same one loaded again.

    The one before is left open: other code may hold it, and memory is freed with its last user.

    Raises:
        UnsupportedOperation: The backend computes what its file holds, not another dtype.
    """
    if device is not None and _same_device(model.device, device):
        device = None
    if dtype == model.dtype:
        dtype = None
    if device is None and dtype is None:
        return model
    reload = model.reload
    if device is not None:
        reload = reload.changed(device=device)
    if dtype is not None:
        model_kwargs = _with_dtype(model, dtype, reload.options.model_kwargs)
        reload = reload.changed(model_kwargs=model_kwargs)
    return reload(model.state())


def _with_dtype(model: Model, dtype: str, given: Mapping[str, Any]) -> dict[str, Any]:
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
