"""Named configurations, and which int8 preset this processor runs best."""

from __future__ import annotations

import platform

from core.toolkit import OnnxFile, processor_flags

#: The file an export writes.
DEFAULT_NAME = "onnx/model.onnx"

#: What `optimize` and `quantize` make, the default first; capabilities of the backend.
OPTIMIZE_CONFIGS = {
    "O2": "extended graph passes and transformer fusions",
    "O1": "basic graph passes",
    "O3": "O2 with a faster approximation of GELU",
    "O4": "O3 in float16, for a GPU",
    "fp16": "float16 weights and arithmetic, for a GPU",
}
QUANTIZE_CONFIGS = {
    "auto": "int8 for this processor: close, and the same in any batch",
    "avx2": "dynamic int8, unsigned weights, for x86 without VNNI",
    "avx512": "dynamic int8 for AVX-512 without VNNI",
    "avx512_vnni": "dynamic int8 for processors with VNNI",
    "arm64": "dynamic int8 for ARM",
    "static": "int8 with activation ranges from calibration texts",
    "fp16": "float16, as optimize has it",
}

CALIBRATED_CONFIGS = ("auto", "static")
#: Calibration texts of "auto".
INT8_SAMPLES = 200

#: Preset to the instructions it is for: any one of them.
INSTRUCTIONS = {
    "avx512_vnni": ("avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni"),
    "avx512": ("avx512f",),
    "avx2": ("avx2",),
}

#: Where each configuration pays: a flag of the processor or a device.
_HALF_PRECISION_DEVICES = ("cuda", "tensorrt", "dml", "coreml", "rocm", "migraphx")
NEEDS = {
    **INSTRUCTIONS,
    "arm64": ("asimd",),
    "O4": _HALF_PRECISION_DEVICES,
    "fp16": _HALF_PRECISION_DEVICES,
}


def choose_preset(flags: frozenset[str] | None = None, machine: str | None = None) -> str:
    """The preset for a processor; for this one without arguments.

    Processors with VNNI multiply signed weights exactly and fastest; without it sums of products of
    signed weights can saturate. The preset "avx2" has unsigned weights for that reason.
    """
    kind = (machine or platform.machine()).lower()
    if kind.startswith(("arm", "aarch")):
        return "arm64"
    known = processor_flags() if flags is None else flags
    for preset, any_of in INSTRUCTIONS.items():
        if known.intersection(any_of):
            return preset
    return "avx2"


def better_preset(
    preset: str, flags: frozenset[str] | None = None, machine: str | None = None
) -> str | None:
    """The preset to use instead where the processor lacks the instructions of this one."""
    best = choose_preset(flags, machine)
    order = ("avx2", "avx512", "avx512_vnni")
    if (preset == "arm64") != (best == "arm64"):
        return best
    if preset in order and best in order and order.index(preset) > order.index(best):
        return best
    return None


#: In a file's metadata: which sums of two int8 products its weights fit. Those of 16 bits are what
#: x86 processors without VNNI make; all others make sums of 32.
SUMS = "core.int8_sums"
SUMS_OF_16_BITS, SUMS_OF_32_BITS = "16 bits", "32 bits"


def may_overflow(file: OnnxFile, flags: frozenset[str] | None = None) -> bool:
    """Whether a processor may cut sums of a file's int8 products off; this one without flags.

    Files that say nothing have the presets' full range, or are another program's.
    """
    known = processor_flags() if flags is None else flags
    if not known or adds_int8_exactly(known):
        return False
    made_for_it = file.metadata.get(SUMS) == SUMS_OF_16_BITS
    return file.is_quantized and file.has_signed_weights and not made_for_it


def adds_int8_exactly(flags: frozenset[str] | None = None, machine: str | None = None) -> bool:
    """Whether a processor adds products of bytes in 32 bits; this one without arguments."""
    return choose_preset(flags, machine) in ("avx512_vnni", "arm64")
