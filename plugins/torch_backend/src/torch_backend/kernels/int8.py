"""Dynamic int8 linear layers on the CPU.

Weights are symmetric integers with one scale per output row; activations are quantized at run
time to unsigned bytes with a scale and a zero point per token, so that a text's embedding does not
depend on its batch-mates. The product runs in oneDNN through `torch.ops.onednn.qlinear_pointwise`,
the operator that torchao's quantization flow is lowered to; torch's older `quantize_dynamic` and
quantized tensor types are deprecated and not used.

Without VNNI instructions oneDNN adds pairs of byte products in 16 bits, where not every pair of
weights fits. Files made on such processors hold weights that do; the weights of others are rounded
once more when a file is loaded there, so that one file is right on every CPU (docs/torch.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from core import Checkpoint
from core.errors import ModelFormatError, UnsupportedOperation
from core.toolkit import (
    INT8_INSTRUCTIONS,
    WeightRounder,
    processor_flags,
    round_weights,
    smoothing_factors,
)
from torch_backend.files import QUANTIZATION, check_missing, check_shapes
from torch_backend.kernels.blocked_weights import BlockedForward
from torch_backend.kernels.even_attention import attend_evenly
from torch_backend.kernels.row_counts import fill_rows

SCHEME = "int8-dynamic"
_SCALE, _SMOOTHING = "weight_scale", "smoothing"
#: What two weights may reach together where their products are added in 16 bits.
_PAIR_LEVELS = 128
_ACTIVATION_LEVELS = 255
_FEW_ROWS = 64
#: A pooler serves heads and is small; of a language model's output layer a few rows are read.
_KEPT = ("pooler", "lm_head")
#: PyTorch's own layers read the weights of the linear layers inside, and do not call these.
_READING_WEIGHTS = (torch.nn.MultiheadAttention, torch.nn.TransformerEncoderLayer)


class Int8Linear(torch.nn.Module):
    """`x @ weight.T + bias` with int8 weights and activations quantized on the fly.

    Attributes:
        weight: int8 [out_features, in_features].
        weight_scale: float32 [out_features]; weight times its row's scale is the original.
        bias: float32 [out_features] or None.
        smoothing: float32 [in_features] that inputs are multiplied by first, or None. The weight
            is of the inputs so made.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    bias: torch.Tensor | None
    smoothing: torch.Tensor | None

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool, smoothed: bool = False
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer(_SCALE, torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self.register_buffer(_SMOOTHING, torch.ones(in_features) if smoothed else None)
        self._packed: torch.Tensor | None = None
        self._row_sums = self._scale = torch.zeros(0)
        self._no_zero_points = torch.zeros(out_features, dtype=torch.int32)
        self._one, self._zero = torch.ones(()), torch.zeros((), dtype=torch.int32)

    @classmethod
    def quantize(
        cls,
        name: str,
        linear: torch.nn.Linear,
        rounder: WeightRounder,
        largest: NDArray[np.float32] | None = None,
    ) -> Int8Linear:
        """Round a layer's weights, symmetrically, row by row.

        Args:
            name: Of the layer, by which the rounder knows its inputs.
            largest: Of each of its inputs the largest absolute value, [in_features], by which they
                are smoothed; None leaves them as they are.
        """
        layer = cls(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            smoothed=largest is not None,
        )
        weight = linear.weight.detach().float().T.numpy()
        factors = None if largest is None else smoothing_factors(largest, [weight])
        if factors is not None:
            layer.smoothing = torch.from_numpy(1 / factors)
        layer.weight, layer.weight_scale = _tensors(*rounder.round(name, name, weight, factors))
        if linear.bias is not None:
            # Its own: what shares it elsewhere is stored once, under the other name.
            layer.bias = linear.bias.detach().float().clone()
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            # oneDNN's blocked layout; made once, at the first batch after loading.
            weight, self._scale = fitting(self.weight, self.weight_scale)
            self._row_sums = weight.sum(dim=1, dtype=torch.float32) * self._scale
            self._packed = torch.ops.onednn.qlinear_prepack(weight, None)
        rows = x.reshape(-1, self.in_features).float()
        smoothed = rows if self.smoothing is None else rows * self.smoothing
        count = len(rows)
        # PyTorch computes the two extremes one by one, a product and a sum one after the other, and
        # a cast by way of 16 bits with vectors: aminmax, addcmul and a cast to bytes take three to
        # ten times as long.
        low, high = smoothed.amin(dim=1).clamp_(max=0), smoothed.amax(dim=1).clamp_(min=0)
        scale = (high - low).div_(_ACTIVATION_LEVELS).clamp_(min=1e-12)
        # Rounded down, so that the largest value stays within a byte.
        zero = torch.floor(-low / scale)
        steps = scale.reciprocal()[:, None]
        # Inputs that were not smoothed are the caller's, and stay as they are.
        shifted = smoothed * steps if self.smoothing is None else smoothed.mul_(steps)
        shifted.add_((zero + 0.5)[:, None])
        # The cast truncates: with 0.5 added, it rounds.
        quantized = shifted.to(torch.int16).to(torch.uint8)
        if count > _FEW_ROWS:  # so few are faster with a kernel of their own
            quantized = fill_rows(quantized)
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise.tensor(
            quantized,
            self._one,
            self._zero,
            self._packed,
            self._scale,
            self._no_zero_points,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        result = result[:count]
        # scale * (product - zero * sum of the weights' rows) + bias
        result.addr_(zero, self._row_sums, alpha=-1).mul_(scale[:, None])
        if self.bias is not None:
            result.add_(self.bias)
        return result.reshape(*x.shape[:-1], self.out_features)


def adds_exactly(flags: frozenset[str] | None = None) -> bool:
    """Whether a processor adds products of bytes in 32 bits; this one without flags."""
    return bool((processor_flags() if flags is None else flags) & INT8_INSTRUCTIONS)


def _tensors(
    integers: NDArray[np.int8], scale: NDArray[np.float32]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers [out_features, in_features] and their scale [out_features]."""
    return torch.from_numpy(np.ascontiguousarray(integers.T)), torch.from_numpy(scale)


def fitting(
    weight: torch.Tensor, scale: torch.Tensor, flags: frozenset[str] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and its scale as a processor multiplies them exactly; this one without flags."""
    if adds_exactly(flags):
        return weight, scale
    wide = weight[:, : weight.shape[1] // 2 * 2].to(torch.int16)
    pairs = wide[:, ::2] + wide[:, 1::2]
    if not pairs.numel() or int(pairs.abs().max()) <= _PAIR_LEVELS:
        return weight, scale
    integers, factor = _tensors(*round_weights(weight.float().T.numpy(), adds_in_16_bits=True))
    return integers, scale * factor


def check_supported() -> None:
    """Raise `UnsupportedOperation` where this PyTorch has no int8 kernels."""
    has_kernels = hasattr(torch.ops.onednn, "qlinear_pointwise")
    if not (has_kernels and torch._C._has_mkldnn):
        raise UnsupportedOperation(
            f"PyTorch {torch.__version__} has no oneDNN int8 kernels for this CPU. Use the onnx or "
            "openvino backend for int8."
        )


def find_linears(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.nn.Linear]:
    """Every linear layer but those that do without, and those that compute something else, by
    name."""
    found: dict[str, torch.nn.Linear] = {}
    for name, child in module.named_children():
        if name in _KEPT or isinstance(child, _READING_WEIGHTS):
            continue
        if isinstance(child, torch.nn.Linear):
            if _is_plain(child):
                found[prefix + name] = child
        else:
            found |= find_linears(child, f"{prefix}{name}.")
    return found


def _is_plain(linear: torch.nn.Linear) -> bool:
    forward: Any = linear.forward
    own = getattr(forward, "__func__", None) is torch.nn.Linear.forward
    return own or isinstance(forward, BlockedForward)


def quantize_linears(
    module: torch.nn.Module,
    largest: Mapping[str, NDArray[np.float32]],
    rounder: WeightRounder,
    kept: Collection[str] = (),
) -> None:
    """Replace the linear layers of `find_linears`, and let attention sum in one order.

    Args:
        largest: By name: of each input of a layer the largest absolute value, [in_features]. Layers
            that are not called have none and stay as they are: what reads their weights takes no
            integers.
        rounder: Of the weights.
        kept: Names of layers that stay as they are.
    """
    for name, linear in find_linears(module).items():
        if name in largest and name not in kept:
            parent, _, own = name.rpartition(".")
            layer = Int8Linear.quantize(name, linear, rounder, largest[name])
            setattr(module.get_submodule(parent), own, layer)
    attend_evenly(module)


def open_quantized(
    source: Checkpoint, file_name: str, scheme: str, empty: torch.nn.Module
) -> torch.nn.Module:
    """Fill `empty`, a freshly built transformer, with the int8 weights of a file.

    Args:
        scheme: What the file says of how it is quantized.

    Raises:
        ModelFormatError: Another scheme than ours, or weights that do not fit the transformer.
    """
    check_supported()
    if scheme != SCHEME:
        raise ModelFormatError(
            f"{source}: {file_name} is quantized as {scheme!r}; this torch backend reads "
            f"{SCHEME!r}. Update it, or make the file again with core.quantize."
        )
    tensors = load_file(source.path(file_name))
    for name in [n.removesuffix(f".{_SCALE}") for n in tensors if n.endswith(f".{_SCALE}")]:
        parent_name, _, child = name.rpartition(".")
        try:
            parent = empty.get_submodule(parent_name)
            linear = getattr(parent, child)
        except AttributeError as error:
            raise ModelFormatError(
                f"{source}: {file_name} has weights for {name!r}, which its model does not have."
            ) from error
        if not isinstance(linear, torch.nn.Linear):
            raise ModelFormatError(
                f"{source}: {file_name} has a scale for {name!r}, which is no linear layer of its "
                "model. It belongs to another model: make it again with core.quantize."
            )
        layer = Int8Linear(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            smoothed=f"{name}.{_SMOOTHING}" in tensors,
        )
        setattr(parent, child, layer)
    made = empty.state_dict()
    shapes = [(n, t.shape, made[n].shape) for n, t in tensors.items() if n in made]
    check_shapes(source, file_name, [entry for entry in shapes if entry[1] != entry[2]])
    _check_numbers(source, file_name, tensors, made)
    result = empty.load_state_dict(tensors, strict=False)
    tied = set(getattr(empty, "_tied_weights_keys", None) or ())
    check_missing(source, file_name, [name for name in result.missing_keys if name not in tied])
    tie = getattr(empty, "tie_weights", None)
    integer = {name for name, child in empty.named_modules() if isinstance(child, Int8Linear)}
    # An output layer of integers is no copy of the token embeddings any more.
    if callable(tie) and not tied & {f"{name}.weight" for name in integer}:
        tie()
    attend_evenly(empty)
    return empty


def _check_numbers(
    source: Checkpoint,
    file_name: str,
    tensors: Mapping[str, torch.Tensor],
    made: Mapping[str, torch.Tensor],
) -> None:
    """Refuse integers in the place of other numbers, which loading would convert to them, and what
    integers cannot be multiplied by."""
    for name, tensor in tensors.items():
        if name.endswith((f".{_SCALE}", f".{_SMOOTHING}")) and not tensor.isfinite().all():
            raise ModelFormatError(
                f"{source}: {file_name} has numbers in {name} that are not finite. It is damaged: "
                "make it again with core.quantize."
            )
        wanted = made[name].dtype if name in made else tensor.dtype
        if tensor.dtype != wanted and not (tensor.is_floating_point() and wanted.is_floating_point):
            raise ModelFormatError(
                f"{source}: {file_name} has {name} as {tensor.dtype}, where {wanted} belongs: "
                "integers without their scale, or a scale without its integers. Make the file "
                "again with core.quantize."
            )


def metadata() -> dict[str, str]:
    """What marks a file as int8."""
    return {QUANTIZATION: SCHEME}
