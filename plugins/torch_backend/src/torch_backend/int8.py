"""Dynamic int8 linear layers on the CPU.

Weights are int8, symmetric, one scale per output row; activations are quantised per tensor at
run time to unsigned integers with a zero point. The product runs in oneDNN through
`torch.ops.onednn.qlinear_pointwise`, the operator that torchao's quantisation flow is lowered to;
torch's older `quantize_dynamic` and quantised tensor types are deprecated and not used.

On CPUs without VNNI instructions oneDNN adds pairs of 8-bit products in 16 bits, which overflows
for full-range activations; there activations get 7 bits.
"""

from __future__ import annotations

from functools import cache

import torch

from core import Checkpoint
from core.errors import ModelFormatError, UnsupportedOperation
from torch_backend.storage import QUANTIZATION

SCHEME = "int8-dynamic"
_SCALE = "weight_scale"


class Int8Linear(torch.nn.Module):
    """`x @ weight.T + bias` with int8 weights and activations quantised on the fly.

    Attributes:
        weight: int8 [out_features, in_features].
        weight_scale: float32 [out_features]; weight times its row's scale is the original.
        bias: float32 [out_features] or None.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer(_SCALE, torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self._packed: torch.Tensor | None = None
        self._zero_points = torch.zeros(out_features, dtype=torch.int32)
        self._levels = (1 << activation_bits()) - 1

    @classmethod
    def quantize(cls, linear: torch.nn.Linear) -> Int8Linear:
        """Round a layer's weights, symmetrically, row by row."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        layer.weight = torch.round(weight / scale[:, None]).clamp(-127, 127).to(torch.int8)
        layer.weight_scale = scale
        if linear.bias is not None:
            layer.bias = linear.bias.detach().float()
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            # oneDNN's blocked layout; made once, at the first batch after loading.
            self._packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
        rows = x.reshape(-1, self.in_features)
        low, high = torch.aminmax(rows)
        scale = ((high.clamp(min=0) - low.clamp(max=0)) / self._levels).clamp(min=1e-12)
        zero = torch.round(-low.clamp(max=0) / scale)
        quantized = torch.round(rows / scale).add_(zero).clamp_(0, self._levels).to(torch.uint8)
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise.tensor(
            quantized,
            scale,
            zero.to(torch.int32),
            self._packed,
            self.weight_scale,
            self._zero_points,
            self.bias,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return result.reshape(*x.shape[:-1], self.out_features)


@cache
def activation_bits() -> int:
    """8 where the CPU multiplies bytes into 32 bits (VNNI, AMX), else 7."""
    probes = ("_is_vnni_supported", "_is_avx512_vnni_supported", "_is_amx_tile_supported")
    found = [getattr(torch.cpu, name, None) for name in probes]
    return 8 if any(probe() for probe in found if probe is not None) else 7


def check_supported() -> None:
    """Raise `UnsupportedOperation` where this PyTorch has no int8 kernels."""
    has_kernels = hasattr(torch.ops.onednn, "qlinear_pointwise")
    if not (has_kernels and torch._C._has_mkldnn):
        raise UnsupportedOperation(
            f"PyTorch {torch.__version__} has no oneDNN int8 kernels for this CPU. Use the onnx or "
            "openvino backend for int8."
        )


def quantize_linears(module: torch.nn.Module) -> int:
    """Replace every linear layer but the unused pooler; returns how many there were."""
    count = 0
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, Int8Linear.quantize(child))
            count += 1
        elif name != "pooler":
            count += quantize_linears(child)
    return count


def open_quantized(source: Checkpoint, file_name: str, empty: torch.nn.Module) -> torch.nn.Module:
    """Fill `empty`, a freshly built transformer, with the int8 weights of a file."""
    from safetensors.torch import load_file

    from torch_backend.weights import check_missing

    check_supported()
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
        bias = f"{name}.bias" in tensors
        setattr(parent, child, Int8Linear(linear.in_features, linear.out_features, bias=bias))
    try:
        result = empty.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelFormatError(
            f"{source}: {file_name} does not fit its config.json: {error}."
        ) from error
    tied = set(getattr(empty, "_tied_weights_keys", None) or ())
    check_missing(source, file_name, [name for name in result.missing_keys if name not in tied])
    tie = getattr(empty, "tie_weights", None)
    if callable(tie):
        tie()
    return empty


def metadata() -> dict[str, str]:
    """What marks a file as int8."""
    return {QUANTIZATION: SCHEME}
